"""The current time, as messages carry it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time in UTC, truncated to milliseconds: messages carry no more."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
