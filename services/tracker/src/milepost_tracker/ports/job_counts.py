"""What the status view counts, and what the processors have reported."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from milepost_contracts.messages.worker_events import Heartbeat


class JobCounts(Protocol):
    """Counts jobs and deliveries. Every call may raise `StoreUnavailable`."""

    async def by_status(self) -> Mapping[str, int]:
        """Return how many jobs the view has, by status."""

    async def oldest(self, statuses: Sequence[str], count: int) -> tuple[str, ...]:
        """Return the ids of the oldest jobs of these statuses."""

    async def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the latest heartbeat of each processor that is alive."""

    async def queues(self) -> set[str]:
        """Return the queues of all announced job types."""

    async def waiting_webhooks(self) -> int:
        """Return how many webhooks wait in the delay levels, among the jobs."""
