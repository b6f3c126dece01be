"""Which values `milepost-tracker rebuild --since` accepts."""

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from milepost_contracts.clock import now
from milepost_tracker.__main__ import _moment


@pytest.mark.parametrize(
    "text, ago",
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_duration_is_subtracted_from_now(text, ago):
    """In seconds, minutes, hours or days."""
    assert abs(now() - ago - _moment(text)) < timedelta(seconds=5)


def test_a_time_with_a_zone_is_used_as_it_is():
    """In ISO 8601 format."""
    assert datetime(2026, 1, 31, 12, tzinfo=UTC) == _moment("2026-01-31T12:00:00Z")


@pytest.mark.parametrize("text", ["", "soon", "7w", "-3h", "2026-13-01", "2026-01-31T12:00:00"])
def test_an_invalid_value_is_an_error(text):
    """The error says what is wrong with the value."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"neither a duration nor a time|no time zone"):
        _moment(text)
