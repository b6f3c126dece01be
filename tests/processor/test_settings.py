"""The settings of the processor."""

from datetime import timedelta

import pytest

from milepost_processor.bootstrap import INTERRUPT_GRACE
from milepost_processor.settings import ProcessorSettings
from milepost_service.settings import SettingsError, load

CLOSING = timedelta(seconds=2)
"""For the connections, after the last handler has ended."""


def test_with_the_default_settings_a_processor_stops_before_kubernetes_kills_it():
    """Its grace period is 30 s; docker-compose.yml has the same."""
    defaults = {name: field.default for name, field in ProcessorSettings.model_fields.items()}
    takes = defaults["drain_timeout"] + defaults["cancel_grace"] + INTERRUPT_GRACE + CLOSING
    assert takes < timedelta(seconds=30)


@pytest.mark.parametrize(
    "variable, value",
    [
        ("MILEPOST_HEARTBEAT", "4"),
        ("MILEPOST_HEARTBEAT", "0"),
        ("MILEPOST_THREADS", "0"),
        ("MILEPOST_DELIVERY_LIMIT", "0"),
        ("MILEPOST_CONSUMER_TIMEOUT", "0"),
    ],
)
def test_a_value_out_of_range_is_refused(monkeypatch, variable, value):
    """It names the variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load(ProcessorSettings)
