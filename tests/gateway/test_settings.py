"""Contradictory or missing settings are refused at start."""

import pytest

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
