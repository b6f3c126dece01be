"""Contradictory settings are refused at start."""

import pytest
from trusted import ID_KEYS

from milepost_service.settings import SettingsError, load
from milepost_tracker.settings import TrackerSettings


@pytest.mark.parametrize(
    "variables",
    [
        {"MILEPOST_PREFETCH": "10", "MILEPOST_BATCH_SIZE": "20"},
        {"MILEPOST_LIVE_FOR": "P1D", "MILEPOST_RETENTION": "P2D"},
    ],
)
def test_contradictory_settings_are_one_error_sentence(monkeypatch, variables):
    """It names both settings."""
    monkeypatch.setenv("MILEPOST_ID_KEYS", ID_KEYS)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(TrackerSettings)
    assert all(name in str(caught.value) for name in variables)
    assert "\n" not in str(caught.value)
