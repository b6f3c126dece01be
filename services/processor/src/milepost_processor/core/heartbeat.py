"""Announces the job types that this processor serves, and sends its heartbeats."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from importlib.metadata import version

from milepost_contracts.messages.worker_events import (
    ANNOUNCEMENT_INTERVAL,
    HEARTBEAT_INTERVAL,
    Announcement,
    Heartbeat,
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
    RunningJob,
    WorkerEvent,
)
from milepost_processor.core.handlers import Handlers

RETRY_INTERVAL = 0.5
"""Seconds until the next try while a queue is not announced: it is not consumed yet, or there was no confirm."""

#: Publishes a message, and returns whether it was confirmed.
Announce = Callable[[WorkerEvent], Awaitable[bool]]


class HeartbeatSender:
    """Sends announcements and heartbeats."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        instance: str,
        threads: int,
        started_at: datetime,
        running: Callable[[], tuple[RunningJob, ...]],
        held: Callable[[], int],
        queue_wait: Callable[[], Mapping[str, float]],
        consumed: Callable[[], Collection[str]],
    ) -> None:
        self._instance = instance
        self._threads = threads
        self._started_at = started_at
        self._running = running
        self._held = held
        self._queue_wait = queue_wait
        self._consumed = consumed
        self._announcements = tuple(definition.announcement() for definition in handlers.definitions.values())
        self._announced: Collection[str] = ()

    @property
    def unannounced(self) -> list[str]:
        """The queues whose types have not been announced."""
        return sorted({one.queue for one in self._announcements} - {*self._announced})

    async def run(self, announce: Announce) -> None:
        """Announce and send heartbeats until cancelled; the first heartbeat follows a confirmed announcement.

        Both name what is consumed. While no queue is, there are heartbeats only if jobs still run here.
        """
        heartbeats_per_announcement = round(ANNOUNCEMENT_INTERVAL / HEARTBEAT_INTERVAL)
        heartbeats = 0
        while True:
            consumed = self._consumed()
            if consumed != self._announced or heartbeats % heartbeats_per_announcement == 0:
                self._announced = consumed if consumed and await announce(self._announcement(consumed)) else ()
            alive = bool(self._announced or self._running())
            if alive:
                await announce(ProcessorHeartbeat(heartbeat=self._heartbeat(consumed)))
                heartbeats += 1
            await asyncio.sleep(RETRY_INTERVAL if self.unannounced else HEARTBEAT_INTERVAL.total_seconds())

    async def send_stopped(self, announce: Announce) -> None:
        """Publish that this processor takes no more jobs of any of its types."""
        queues = {one.queue for one in self._announcements}
        await announce(ProcessorStopped(heartbeat=self._heartbeat(queues)))

    def _announcement(self, consumed: Collection[str]) -> ProcessorAnnounced:
        types = tuple(one for one in self._announcements if one.queue in consumed)
        return ProcessorAnnounced(
            announcement=Announcement(instance=self._instance, types=types, started_at=self._started_at)
        )

    def _heartbeat(self, consumed: Collection[str]) -> Heartbeat:
        return Heartbeat(
            instance=self._instance,
            started_at=self._started_at,
            types=tuple(one.type for one in self._announcements if one.queue in consumed),
            queues=tuple(sorted(consumed)),
            threads=self._threads,
            running=self._running(),
            held=self._held(),
            queue_wait=dict(self._queue_wait()),
            version=version("milepost-processor"),
        )
