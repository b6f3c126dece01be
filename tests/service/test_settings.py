"""An invalid setting is reported in one sentence, without secrets."""

import os

import pytest

from milepost_service.senders import SenderSettings
from milepost_service.settings import ServiceSettings, SettingsError, exit_misconfigured, load

SAFE = "amqp://milepost:secret@127.0.0.1/"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("MILEPOST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", SAFE)


def test_beside_a_local_rabbitmq_only_the_word_guest_is_required(monkeypatch):
    """A developer starts a service without further configuration."""
    monkeypatch.delenv("MILEPOST_RABBITMQ_URL")
    monkeypatch.setenv("MILEPOST_ALLOW", "guest")
    assert "milepost" == load(ServiceSettings).namespace


@pytest.mark.parametrize(
    "variable, value",
    [
        ("MILEPOST_RABBITMQ_URL", "http://127.0.0.1"),
        ("MILEPOST_REDIS_URL", "not a url"),
        ("MILEPOST_NAMESPACE", "Has Spaces"),
        ("MILEPOST_RETENTION", "soon"),
        ("MILEPOST_RETENTION", "0"),
        ("MILEPOST_LOG_FORMAT", "xml"),
        ("MILEPOST_ALLOW", "everything"),
    ],
)
def test_an_invalid_value_is_reported_in_one_sentence_with_the_variable(monkeypatch, variable, value):
    """The operator knows what to change."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert str(caught.value).startswith(variable)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "variable, value, sentence",
    [
        ("MILEPOST_METRICS_TOKEN", "short", "it has 5 characters; it needs at least 16"),
        ("MILEPOST_GATEWAY_USERS", "", "it is empty: give it a value, or remove it"),
        (
            "MILEPOST_RETENTION",
            "",
            "it is not a duration: write seconds, for example 30, or ISO 8601, for example PT30S",
        ),
        ("MILEPOST_RETENTION", "a week", "it is not a duration: write seconds, for example 30, or ISO 8601"),
    ],
)
def test_the_sentence_says_what_to_write(monkeypatch, variable, value, sentence):
    """In an operator's words, not in those of the library."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(SenderSettings)
    assert str(caught.value).startswith(f"{variable}: {sentence}")


def test_the_error_for_an_invalid_url_does_not_contain_its_password(monkeypatch):
    """The error may be written to a log."""
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", "amqx://user:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert "hunter2" not in str(caught.value)


def test_a_misconfigured_service_exits_with_two(capsys):
    """A supervisor can tell a wrong configuration from a crash."""
    with pytest.raises(SystemExit) as caught:
        exit_misconfigured("this is wrong")
    assert 2 == caught.value.code
    assert "milepost: this is wrong\n" == capsys.readouterr().err


AMQPS, REDISS, PASSWORD = "amqps://milepost:{}@broker.example/", "rediss://:{}@redis.example/0", "x" * 16
UNSAFE = [
    ("guest", {"MILEPOST_RABBITMQ_URL": "amqp://guest:guest@127.0.0.1/"}),
    ("guest", {"MILEPOST_RABBITMQ_URL": "amqp://gu%65st:other-password-of-it@127.0.0.1/"}),
    ("guest", {"MILEPOST_RABBITMQ_URL": "amqp://127.0.0.1/"}),
    ("plain-amqp", {"MILEPOST_RABBITMQ_URL": f"amqp://milepost:{PASSWORD}@broker.example/"}),
    ("plain-amqp", {"MILEPOST_RABBITMQ_URL": f"amqp://milepost:{PASSWORD}@10.0.0.1:5672/"}),
    ("plain-amqp", {"MILEPOST_RABBITMQ_URL": f"amqp://milepost:{PASSWORD}@[2001:db8::1]:5672/"}),
    ("plain-amqp", {"MILEPOST_RABBITMQ_URL": f"amqp://milepost:{PASSWORD}@localhost.example/"}),
    ("plain-redis", {"MILEPOST_REDIS_URL": f"redis://:{PASSWORD}@redis.example/0"}),
    ("plain-redis", {"MILEPOST_REDIS_URL": f"redis://:{PASSWORD}@0.0.0.0/0"}),
    ("short-secrets", {"MILEPOST_RABBITMQ_URL": AMQPS.format("x" * 15)}),
    ("short-secrets", {"MILEPOST_RABBITMQ_URL": AMQPS.format("%41" * 15)}),
    ("short-secrets", {"MILEPOST_REDIS_URL": REDISS.format("hunter2")}),
    ("short-secrets", {"MILEPOST_REDIS_URL": "rediss://redis.example/0"}),
    ("unknown-settings", {"MILEPOST_RETENTOIN": "60"}),
    ("unknown-settings", {"milepost_port": "8800"}),
    ("unknown-settings", {"MILEPOST_WORKERS": "8"}),
]


@pytest.mark.parametrize("word, variables", UNSAFE)
def test_what_is_not_safe_is_refused_unless_it_is_allowed_by_name(monkeypatch, word, variables):
    """The sentence names the variable and the word, and contains neither a value nor a password."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    (problem,) = caught.value.problems
    assert problem.startswith(tuple(variables))
    assert f"add {word} to MILEPOST_ALLOW" in problem
    assert not any(secret in problem for secret in ("hunter2", PASSWORD, "\n"))
    monkeypatch.setenv("MILEPOST_ALLOW", f"evicting-redis, {word}")
    load(ServiceSettings)


@pytest.mark.parametrize(
    "variables",
    [
        {"MILEPOST_RABBITMQ_URL": AMQPS.format(PASSWORD), "MILEPOST_REDIS_URL": REDISS.format(PASSWORD)},
        {"MILEPOST_RABBITMQ_URL": "amqp://milepost:x@[::1]:5672/%2F", "MILEPOST_REDIS_URL": "redis://[::1]"},
        {"MILEPOST_RABBITMQ_URL": "amqp://milepost:x@LOCALHOST/vhost", "MILEPOST_REDIS_URL": "redis://127.8.8.8/3"},
        {"MILEPOST_URL": "http://gateway", "MILEPOST_LIVE_FOR": "P9D", "MILEPOST_API_KEY_FILE": "/nowhere"},
        {"MILEPOST_GATEWAY_SERVICE_HOST": "10.0.0.1", "MILEPOST_GATEWAY_PORT_8800_TCP_ADDR": "10.0.0.1"},
        {"MILEPOST_GATEWAY_PORT": "tcp://10.0.0.1:8800", "MILEPOST_GATEWAY_SERVICE_PORT_HTTP": "8800"},
    ],
)
def test_what_is_safe_needs_no_word(monkeypatch, variables):
    """Servers with TLS or on loopback; settings of other parts; what Kubernetes says about a Service of this name."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    load(ServiceSettings)


def test_an_unknown_name_gets_a_suggestion(monkeypatch):
    """A typing error is found at start, and not when the default does harm."""
    monkeypatch.setenv("MILEPOST_RETENTOIN", "60")
    with pytest.raises(SettingsError, match=r"did you mean MILEPOST_RETENTION\?"):
        load(ServiceSettings)


def test_every_problem_is_known_at_once(monkeypatch):
    """`--check` prints them all; a service prints the first."""
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", "amqp://guest:guest@broker.example/")
    monkeypatch.setenv("MILEPOST_RETENTOIN", "60")
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert 4 == len(caught.value.problems)
