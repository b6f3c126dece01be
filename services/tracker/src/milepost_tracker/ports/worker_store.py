"""Announced job types and live processors."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from milepost_contracts.messages.worker_events import WorkerEvent


class WorkerStore(Protocol):
    """Records what processors report. Every call may raise `StoreUnavailable`; repeating any of them is harmless."""

    async def record(self, message: WorkerEvent) -> None:
        """Record an announcement or a heartbeat."""

    async def queues(self, job_types: Sequence[str]) -> Mapping[str, str]:
        """Return the queue of each of these types that has been announced."""

    async def versions(self, job_type: str, *, queue: str, within: timedelta) -> frozenset[str] | None:
        """Return the versions of a type that processors of a queue have announced lately.

        Return nothing if that is not known, because announcements were not recorded for all of this time.
        """
