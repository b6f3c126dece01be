"""The log of lifecycle events."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from milepost_contracts.messages.received import Received


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """A part of the log."""

    messages: Sequence[Received]
    #: The offset behind it, from which the next page can be read.
    end: int


class EventLog(Protocol):
    """Reads the log."""

    def read(self, since: datetime | int | None) -> AsyncIterator[LogPage]:
        """Yield the log up to now, from an offset or from about a time on; there is always a last page.

        Raises:
            EventLogUnavailable: It can't be read now.
        """
