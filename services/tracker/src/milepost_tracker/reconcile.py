"""The books (law 9): accepted = ended + ready + un-acked + delayed + parked; what has not ended, somebody holds.

The view says what has not ended; RabbitMQ says what is ready, delayed and parked; the processors' beats say what they
hold un-acknowledged. What moves meanwhile is counted twice or not at all, so one look proves little: a difference that
stays is the alarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from milepost_tracker import metrics


@dataclass(frozen=True, kw_only=True)
class Books:
    """One look."""

    #: Jobs that have not ended, by their status in the view.
    open: Mapping[str, int]
    #: Jobs that have ended, by status.
    ended: Mapping[str, int]
    #: Jobs that somebody holds: `ready`, `unacked`, `delayed`, `parked`.
    held: Mapping[str, int]
    #: The oldest jobs that have not ended.
    oldest: tuple[str, ...]

    @property
    def difference(self) -> int:
        """Jobs that the view has open and nobody holds; below zero, messages of jobs that have ended."""
        return sum(self.open.values()) - sum(self.held.values())


class Holders(Protocol):
    async def held(self) -> Mapping[str, int]:
        """Count the jobs that RabbitMQ and the processors hold, by where they are."""


class Accounts(Protocol):
    async def by_status(self) -> Mapping[str, int]:
        """Count the jobs of the view by status."""

    async def oldest_open(self, count: int) -> tuple[str, ...]:
        """Return the ids of the jobs that have been open the longest."""


OPEN = ("scheduled", "queued", "running", "retrying")
SHOWN = 10


async def reconcile(accounts: Accounts, holders: Holders) -> Books:
    """Look at both sides, and set the metrics."""
    held = await holders.held()
    counted = await accounts.by_status()
    books = Books(
        open={status: counted.get(status, 0) for status in OPEN},
        ended={status: count for status, count in counted.items() if status not in OPEN},
        held=held,
        oldest=await accounts.oldest_open(SHOWN),
    )
    for status, count in books.open.items():
        metrics.open_jobs.labels(status=status).set(count)
    for where, count in books.held.items():
        metrics.held_jobs.labels(where=where).set(count)
    metrics.difference.set(books.difference)
    return books
