"""Announced job types and live processors, read only."""

from collections.abc import Sequence
from typing import Protocol

from milepost_contracts.messages.worker_events import Heartbeat, JobType


class WorkerStore(Protocol):
    """Reads what processors have announced. Every call may raise `StoreUnavailable`."""

    async def job_types(self) -> Sequence[JobType]:
        """Return the job types that were announced in the last 30 days."""

    async def processors(self) -> Sequence[Heartbeat]:
        """Return the latest heartbeat of each processor that is alive."""
