"""Settings that are wrong are told in one sentence, without showing secrets."""

import pytest

from milepost_service.settings import ServiceSettings, SettingsError, exit_misconfigured, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("RABBITMQ_URL", "REDIS_URL", "NAMESPACE", "RETENTION", "LOG_FORMAT"):
        monkeypatch.delenv(f"MILEPOST_{name}", raising=False)


def test_the_defaults_work_with_nothing_set():
    """A service starts beside a local RabbitMQ and Redis without a file."""
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
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_variable(monkeypatch, variable, value):
    """Whoever starts the service knows what to change."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert str(caught.value).startswith(variable)
    assert "\n" not in str(caught.value)


def test_a_wrong_url_is_not_repeated_with_its_password(monkeypatch):
    """A password that was mistyped into the wrong place does not land in a log."""
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", "amqx://user:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert "hunter2" not in str(caught.value)


def test_a_misconfigured_service_exits_with_two(capsys):
    """Supervisors tell a wrong configuration from a crash."""
    with pytest.raises(SystemExit) as caught:
        exit_misconfigured("this is wrong")
    assert 2 == caught.value.code
    assert "milepost: this is wrong\n" == capsys.readouterr().err
