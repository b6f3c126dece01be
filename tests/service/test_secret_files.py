"""Every secret may be given as the name of a file."""

import os

import pytest

from milepost_service.callback_urls import CallbackSettings
from milepost_service.settings import SettingsError, load

KEYS, URL = "1:" + "ab" * 32, "amqp://milepost:hunter2@127.0.0.1/"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("MILEPOST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MILEPOST_ALLOW", "guest")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{URL}\n")
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_the_contents_of_its_file_without_the_last_newline(monkeypatch, tmp_path, end):
    """URLs with passwords, and keys."""
    for name, value in (("RABBITMQ_URL", URL), ("WEBHOOK_KEYS", KEYS)):
        (tmp_path / name).write_bytes((value + end).encode())
        monkeypatch.setenv(f"MILEPOST_{name}_FILE", str(tmp_path / name))
    monkeypatch.setenv("MILEPOST_WEBHOOK_KEYS", "")  # as Compose sets what is not in .env
    settings = load(CallbackSettings)
    assert URL == str(settings.rabbitmq_url)
    assert KEYS == settings.webhook_keys.get_secret_value()


def test_only_one_newline_is_removed(monkeypatch, file):
    """The rest belongs to the secret."""
    file.write_text(f"{KEYS}\n\n")
    monkeypatch.setenv("MILEPOST_WEBHOOK_KEYS_FILE", str(file))
    assert f"{KEYS}\n" == load(CallbackSettings).webhook_keys.get_secret_value()


def test_a_secret_and_its_file_contradict_each_other(monkeypatch, file):
    """Nobody can tell which one is meant."""
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", URL)
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL_FILE", str(file))
    with pytest.raises(SettingsError, match=r"MILEPOST_RABBITMQ_URL and MILEPOST_RABBITMQ_URL_FILE are both set"):
        load(CallbackSettings)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 70_000], ids=lambda one: str(one)[:9])
def test_a_file_that_can_not_be_used_is_one_sentence(monkeypatch, tmp_path, content):
    """It names the variable and the file, and does not show what is in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("MILEPOST_REDIS_URL_FILE", str(path))
    with pytest.raises(SettingsError) as caught:
        load(CallbackSettings)
    (problem,) = caught.value.problems
    assert problem.startswith(f"MILEPOST_REDIS_URL_FILE: {path} ")
    assert "xxx" not in problem


def test_a_folder_is_not_a_secret(monkeypatch, tmp_path):
    """Docker creates one for a file that does not exist."""
    monkeypatch.setenv("MILEPOST_REDIS_URL_FILE", str(tmp_path))
    with pytest.raises(SettingsError, match=r"MILEPOST_REDIS_URL_FILE: .* can't be read"):
        load(CallbackSettings)


def test_a_bad_value_in_a_file_names_the_setting(monkeypatch, file):
    """And does not show it."""
    file.write_text("amqp://milepost:hunter2@host:99999/")
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL_FILE", str(file))
    with pytest.raises(SettingsError, match="MILEPOST_RABBITMQ_URL") as caught:
        load(CallbackSettings)
    assert "hunter2" not in str(caught.value)
