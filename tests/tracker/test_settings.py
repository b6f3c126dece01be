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


@pytest.mark.parametrize(
    "variable, value",
    [("MILEPOST_PREFETCH", "0"), ("MILEPOST_BATCH_SIZE", "0"), ("MILEPOST_LOG_MAX_BYTES", "-1")],
)
def test_a_value_out_of_range_is_refused(monkeypatch, variable, value):
    """It names the variable."""
    monkeypatch.setenv("MILEPOST_ID_KEYS", ID_KEYS)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load(TrackerSettings)


def test_a_log_without_a_limit_is_refused_unless_it_is_allowed_by_name(monkeypatch):
    """It would fill the broker's disk, which ends everything."""
    monkeypatch.setenv("MILEPOST_RABBITMQ_URL", "amqp://milepost:secret@127.0.0.1/")
    monkeypatch.setenv("MILEPOST_ID_KEYS", ID_KEYS)
    assert 10 * 1024**3 == load(TrackerSettings).log_max_bytes
    monkeypatch.setenv("MILEPOST_LOG_MAX_BYTES", "0")
    with pytest.raises(SettingsError, match=r"MILEPOST_LOG_MAX_BYTES.*add unlimited-log to MILEPOST_ALLOW"):
        load(TrackerSettings)
    monkeypatch.setenv("MILEPOST_ALLOW", "unlimited-log")
    assert 0 == load(TrackerSettings).log_max_bytes
