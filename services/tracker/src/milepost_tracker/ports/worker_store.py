"""Announced job types and live processors."""

from typing import Protocol

from milepost_contracts.messages.worker_events import WorkerEvent


class WorkerStore(Protocol):
    """Records what processors report."""

    async def record(self, message: WorkerEvent) -> None:
        """Record an announcement or a heartbeat.

        Raises:
            StoreUnavailable: It may not be recorded; repeating is harmless.
        """
