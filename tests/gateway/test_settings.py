"""Contradictory or missing settings are refused at start."""

import pytest

from milepost_contracts.access import Access, Scope, create_key, write_access
from milepost_gateway.access_file import AccessFile
from milepost_gateway.settings import GatewaySettings
from milepost_service.settings import SettingsError, load

KEY = "1:" + "ab" * 32


@pytest.mark.parametrize(
    "variables, named",
    [
        ({"MILEPOST_ID_KEYS": ""}, "MILEPOST_ID_KEYS"),
        ({"MILEPOST_ID_KEYS": "1:abcd"}, "MILEPOST_ID_KEYS"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_MAX_BODY": "2000"}, "MILEPOST_MAX_BODY"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_MAX_UPLOAD": "100000"}, "MILEPOST_MAX_UPLOAD"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_PORT": "0"}, "MILEPOST_PORT"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_ACCESS_FILE": "/nowhere/access.json"}, "MILEPOST_ACCESS_FILE"),
        ({"MILEPOST_ID_KEYS": KEY, "MILEPOST_CORS_ORIGINS": "app.example.com"}, "MILEPOST_CORS_ORIGINS"),
    ],
)
def test_settings_that_can_not_work_are_one_sentence(monkeypatch, variables, named):
    """It names the variable, and no secret."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named) as caught:
        load(GatewaySettings)
    assert "\n" not in str(caught.value)
    assert "abcd" not in str(caught.value)


def test_a_missing_key_comes_with_how_to_make_one(monkeypatch):
    """The one setting that has no default explains itself."""
    monkeypatch.delenv("MILEPOST_ID_KEYS", raising=False)
    with pytest.raises(SettingsError, match="token_hex"):
        load(GatewaySettings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.internal"])  # noqa: S104 - that is the point
def test_an_open_gateway_keeps_to_loopback_unless_somebody_says_otherwise(monkeypatch, tmp_path, host):
    """Or says who may do what."""
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
    """As in every other list here."""
    monkeypatch.setenv("MILEPOST_ID_KEYS", KEY)
    monkeypatch.setenv("MILEPOST_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert ("https://a.example", "http://localhost:3000") == load(GatewaySettings).cors_origins


def test_a_file_that_has_changed_is_read_again(tmp_path, monkeypatch):
    """A key is revoked without a restart; and a file that breaks meanwhile changes nothing."""
    monkeypatch.setattr("milepost_gateway.access_file.LOOK_EVERY", -1.0)
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
