"""`--check` prints what a service would do, and no secret."""

import os
from datetime import timedelta

import pytest

from milepost_service.callback_urls import CallbackSettings
from milepost_service.check import describe_folder, duration, report
from milepost_service.settings import load

KEYS = "1:" + "ab" * 32


@pytest.fixture
def settings(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith("MILEPOST_"):
            monkeypatch.delenv(name)
    (tmp_path / "keys").write_text(KEYS)
    monkeypatch.setenv("MILEPOST_WEBHOOK_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", "amqp://guest:hunter2@127.0.0.1/")
    monkeypatch.setenv("MILEPOST_ALLOW", "guest")
    return load(CallbackSettings)


def test_every_setting_is_shown_with_its_origin_and_without_secrets(settings, capsys):
    """An operator may paste it into a ticket."""
    assert 0 == report(settings, ["do this"], {"RabbitMQ": lambda: "version 4"})
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert ["MILEPOST_RABBITMQ_URL", "amqp://guest:***@127.0.0.1/", "from", "the", "environment"] in lines
    assert ["MILEPOST_WEBHOOK_KEYS", "***", "from", "MILEPOST_WEBHOOK_KEYS_FILE"] in lines
    assert ["MILEPOST_RETENTION", "7", "days", "default"] in lines
    assert ["MILEPOST_WEBHOOK_PORTS", "443,80,8443", "default"] in lines
    assert "do this" in printed
    assert "  guest: MILEPOST_RABBITMQ_URL: it logs in as guest" in printed
    assert printed.endswith("it would start\n")
    assert "hunter2" not in printed
    assert KEYS not in printed


def test_a_server_that_fails_is_named_and_the_code_is_2(settings, capsys):
    """The others are asked all the same."""

    def fail():
        raise ConnectionError("nobody is there")

    assert 2 == report(settings, [], {"RabbitMQ": fail, "Redis": lambda: "version 8"})
    printed = capsys.readouterr().out
    assert "FAILED: nobody is there" in printed
    assert "version 8" in printed
    assert printed.endswith("it would not work: RabbitMQ failed\n")


def test_a_folder_is_described_and_not_created(tmp_path):
    """Nor is it one if a file is in the way."""
    assert f"the folder {tmp_path}" == describe_folder(tmp_path.as_uri())
    missing = tmp_path / "a" / "b"
    assert f"the folder {missing}, which would be created" == describe_folder(missing.as_uri())
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").touch()
    with pytest.raises(PermissionError, match="not a folder"):
        describe_folder(missing.as_uri())
    assert describe_folder("s3://bucket") is None


@pytest.mark.parametrize(
    "seconds, text", [(0, "0 s"), (0.5, "0.5 s"), (90, "90 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 days")]
)
def test_a_duration_is_in_the_largest_unit_that_divides_it(seconds, text):
    """So it can be read and copied."""
    assert text == duration(timedelta(seconds=seconds))
