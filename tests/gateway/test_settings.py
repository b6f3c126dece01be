"""Settings of the gateway: contradictory or missing ones are refused at start; and its access file."""

import pytest

from milepost_contracts.http.access import Access, Scope, create_key, write_access
from milepost_gateway.adapters.access_rules import AccessFile
from milepost_gateway.settings import GatewaySettings
from milepost_service.settings import SettingsError, load

KEY = "1:" + "ab" * 32


@pytest.fixture(autouse=True)
def rabbitmq_url(monkeypatch):
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", "amqp://milepost:secret@127.0.0.1/")


@pytest.mark.parametrize(
    "variables, named",
    [
        ({"MILEPOST_ID_KEYS": ""}, "MILEPOST_ID_KEYS"),
        ({"MILEPOST_ID_KEYS": "1:abcd"}, "MILEPOST_ID_KEYS"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_SEAL_KEYS": "1:abcd"}, "MILEPOST_SEAL_KEYS"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_SEAL_KEYS": "abcd" * 16}, "MILEPOST_SEAL_KEYS"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_MAX_BODY": "2000"}, "MILEPOST_MAX_BODY"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_MAX_UPLOAD": "100000"}, "MILEPOST_MAX_UPLOAD"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_PORT": "0"}, "MILEPOST_PORT"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_ACCESS_FILE": "/nowhere/access.json"}, "MILEPOST_ACCESS_FILE"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_CORS_ORIGINS": "app.example.com"}, "MILEPOST_CORS_ORIGINS:"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_MAX_BODY": "16777217"}, "MILEPOST_MAX_BODY"),
    ],
)
def test_an_invalid_setting_raises_one_line(monkeypatch, variables, named):
    """The error names the variable and contains no secret."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named) as caught:
        load(GatewaySettings)
    assert "\n" not in str(caught.value)
    assert "abcd" not in str(caught.value)


def test_the_error_for_missing_id_keys_says_how_to_create_one(monkeypatch):
    """The setting has no default."""
    monkeypatch.delenv("MILEPOST_ID_KEYS", raising=False)
    with pytest.raises(SettingsError, match="token_hex"):
        load(GatewaySettings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.internal"])  # noqa: S104 - it is refused
def test_a_gateway_without_access_file_listens_only_on_loopback(monkeypatch, tmp_path, host):
    """Another host requires an access file or MILEPOST_OPEN=true, and not both."""
    monkeypatch.setenv("MILEPOST_ID_KEYS", KEY)
    assert load(GatewaySettings).access_file is None
    monkeypatch.setenv("MILEPOST_HOST", host)
    with pytest.raises(SettingsError, match="MILEPOST_OPEN=true"):
        load(GatewaySettings)
    monkeypatch.setenv("MILEPOST_OPEN", "true")
    assert load(GatewaySettings).open
    (tmp_path / "access.json").write_text("{}")
    monkeypatch.setenv("MILEPOST_ACCESS_FILE", str(tmp_path / "access.json"))
    with pytest.raises(SettingsError, match="contradict"):
        load(GatewaySettings)
    monkeypatch.delenv("MILEPOST_OPEN")
    assert load(GatewaySettings).access_file == tmp_path / "access.json"


def test_origins_are_separated_by_commas(monkeypatch):
    """Spaces around them are ignored."""
    monkeypatch.setenv("MILEPOST_ID_KEYS", KEY)
    monkeypatch.setenv("MILEPOST_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert ("https://a.example", "http://localhost:3000") == load(GatewaySettings).cors_origins


def test_a_changed_access_file_is_read_again(tmp_path, monkeypatch):
    """A key is revoked without a restart; while the file is invalid or missing, the last rules apply."""
    monkeypatch.setattr("milepost_gateway.adapters.access_rules.FILE_CHECK_INTERVAL", -1.0)
    path = tmp_path / "access.json"
    text, key = create_key("acme", frozenset({Scope.READ}))
    write_access(path, Access(keys=(key,)))
    rules = AccessFile(path)
    assert key == rules.current().key(text)
    path.write_text("{")
    assert key == rules.current().key(text)
    path.unlink()
    assert key == rules.current().key(text)
    write_access(path, Access())
    assert rules.current().key(text) is None
