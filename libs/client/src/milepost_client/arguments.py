"""Checks of what callers of the SDK pass, where Python would accept something else silently."""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from os import PathLike
from typing import TypeVar

Duration = timedelta | float
"""A length of time: a `timedelta`, or a number of seconds."""

T = TypeVar("T")


def several(name: str, values: Iterable[T]) -> Iterable[T]:
    """Return the values of the argument of this name.

    Raises:
        TypeError: They are a single text or path, whose letters would be taken for the values.
    """
    if isinstance(values, str | bytes | PathLike):
        raise TypeError(f"{name} takes a list. Write {name}=[{values!r}]")
    return values


def seconds(name: str, length: Duration) -> float:
    """Return the argument of this name in seconds.

    Raises:
        TypeError: It is neither a `timedelta` nor a number.
    """
    if isinstance(length, timedelta):
        return length.total_seconds()
    if isinstance(length, bool) or not isinstance(length, int | float) or math.isnan(length):
        raise TypeError(f"{name} takes a timedelta or a number of seconds, not {length!r}")
    return float(length)


def aware(name: str, moment: datetime) -> datetime:
    """Return the argument of this name.

    Raises:
        TypeError: It is not a `datetime`, or has no time zone.
    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise TypeError(f"{name} takes a datetime with a time zone, such as datetime.now(UTC), not {moment!r}")
    return moment
