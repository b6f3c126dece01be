"""Which jobs are to be published again, so that the log keeps them."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Protocol

from milepost_tracker.ports.status_store import KnownJob


class RepublishStore(Protocol):
    """Finds jobs to publish again. Every call may raise `StoreUnavailable`."""

    async def due_shards(self, every: timedelta) -> list[int]:
        """Return the shards whose jobs were last published again longer ago than this."""

    def unfinished_jobs(self, shard: int) -> AsyncIterator[Sequence[KnownJob]]:
        """Yield the jobs of a shard that have not ended, some at a time."""

    async def record(self, shard: int) -> None:
        """Record that the jobs of this shard were published again just now."""
