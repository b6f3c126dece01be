"""What `milepost-tracker rebuild --since` understands."""

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from milepost_contracts.envelope import now
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
def test_a_length_of_time_means_so_long_ago(text, ago):
    """In seconds, minutes, hours or days."""
    assert abs(now() - ago - _moment(text)) < timedelta(seconds=5)


def test_a_time_means_itself():
    """With its zone."""
    assert datetime(2026, 1, 31, 12, tzinfo=UTC) == _moment("2026-01-31T12:00:00Z")


@pytest.mark.parametrize("text", ["", "soon", "7w", "-3h", "2026-13-01", "2026-01-31T12:00:00"])
def test_what_can_not_be_understood_is_said(text):
    """In a sentence, rather than taken for something."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"no length of time|no time zone"):
        _moment(text)
