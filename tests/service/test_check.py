"""`--check` prints what a service would do, and no secret."""

import os
import socket
from datetime import timedelta

import pytest

from milepost_service.callback_urls import CallbackSettings
from milepost_service.check import describe_address, describe_folder, duration, report
from milepost_service.senders import SenderSettings
from milepost_service.settings import QueueSettings, load

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
    assert ["MILEPOST_RETENTION", "P7D", "default"] in lines
    assert ["MILEPOST_WEBHOOK_PORTS", "80,443,8443", "default"] in lines
    assert "do this" in printed
    assert "  guest: MILEPOST_RABBITMQ_URL: it logs in as guest" in printed
    assert printed.endswith("it would start\n")
    assert "hunter2" not in printed
    assert KEYS not in printed


class Settings(CallbackSettings, SenderSettings, QueueSettings):
    threads: int = 4
    open: bool = False


WRITTEN = {
    "RETENTION": "P9DT1H",
    "METRICS_TOKEN": "x" * 16,
    "ALLOW": "guest,unknown-settings",
    "GATEWAY_USERS": "one,two",
    "PROCESSOR_USERS": "gpu-team:gpu+images,milepost-processor",
    "WEBHOOK_NETWORKS": "10.1.0.0/16,fd00::/8",
    "WEBHOOK_PORTS": "443,8000-8999",
    "DELIVERY_LIMIT": "5",
    "THREADS": "7",
    "OPEN": "true",
}


def shown(capsys, kind):
    """Return the values that `--check` shows, by variable."""
    report(load(kind), [], {})
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split()[:2] for line in lines if line.startswith("  MILEPOST_"))


def test_a_setting_is_shown_as_it_is_written_in_the_environment(settings, capsys, monkeypatch):
    """With the same words and units; only secrets are masked."""
    written = {f"MILEPOST_{name}": value for name, value in WRITTEN.items()}
    for name, value in written.items():
        monkeypatch.setenv(name, value)
    assert written | {"MILEPOST_METRICS_TOKEN": "***"} == {name: shown(capsys, Settings)[name] for name in written}


def test_a_default_can_be_copied_into_the_environment(settings, capsys, monkeypatch):
    """And means the same there."""
    before = load(Settings).model_dump()
    for name, value in shown(capsys, Settings).items():
        if name not in os.environ and f"{name}_FILE" not in os.environ and value != "-":
            monkeypatch.setenv(name, value)
    assert before == load(Settings).model_dump()


def test_an_address_that_the_service_can_not_listen_on_fails():
    """A port that is in use does not: the service itself may run there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1, port {port} is in use: by this service, if it runs" == describe_address("127.0.0.1", port)
    assert f"127.0.0.1, port {port} is free" == describe_address("127.0.0.1", port)
    with pytest.raises(OSError, match=r"can't listen on 300\.1\.1\.1, port 8801"):
        describe_address("300.1.1.1", 8801)


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
