"""An invalid setting is reported in one sentence, without secrets."""

import pytest

from milepost_service.settings import ServiceSettings, SettingsError, exit_misconfigured, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("RABBITMQ_URL", "REDIS_URL", "NAMESPACE", "RETENTION", "LOG_FORMAT"):
        monkeypatch.delenv(f"MILEPOST_{name}", raising=False)


def test_no_setting_is_required():
    """A service starts beside a local RabbitMQ and Redis without configuration."""
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
def test_an_invalid_value_is_reported_in_one_sentence_with_the_variable(monkeypatch, variable, value):
    """The operator knows what to change."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert str(caught.value).startswith(variable)
    assert "\n" not in str(caught.value)


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
