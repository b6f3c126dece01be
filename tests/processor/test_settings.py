"""The settings of the processor."""

from datetime import timedelta

from milepost_processor.bootstrap import INTERRUPT_GRACE
from milepost_processor.settings import ProcessorSettings

CLOSING = timedelta(seconds=2)
"""For the connections, after the last handler has ended."""


def test_with_the_default_settings_a_processor_stops_before_kubernetes_kills_it():
    """Its grace period is 30 s; docker-compose.yml has the same."""
    defaults = {name: field.default for name, field in ProcessorSettings.model_fields.items()}
    takes = defaults["drain_timeout"] + defaults["cancel_grace"] + INTERRUPT_GRACE + CLOSING
    assert takes < timedelta(seconds=30)
