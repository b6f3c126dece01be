"""Announced job types and live processors, read only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from milepost_contracts.messages.worker_events import Heartbeat, JobType


class WorkerStore(Protocol):
    """Reads what processors have announced. Every call may raise `StoreUnavailable`."""

    async def job_types(self) -> Sequence[JobType]:
        """Return the job types that were announced in the last 30 days."""

    async def types_since(self) -> datetime | None:
        """Return since when the store has all announcements; nothing if it has none, or has lost its contents."""

    async def processors(self) -> Sequence[Heartbeat]:
        """Return the latest heartbeat of each processor that is alive."""
