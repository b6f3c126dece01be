"""Projects events into the status view: a batch becomes one merged view for each job, and one write."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from milepost_contracts.back_off import BackOff
from milepost_contracts.clock import now
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.job_events import AnyJobMessage, JobEvent, decode_event
from milepost_contracts.messages.worker_events import ProcessorAnnounced, decode_worker_event
from milepost_contracts.status.merge import merge
from milepost_tracker import metrics
from milepost_tracker.core.reaper import Reaper
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.consumer import Delivery
from milepost_tracker.ports.event_publisher import EventPublisher
from milepost_tracker.ports.message_router import MessageRouter
from milepost_tracker.ports.status_store import Applied, StatusStore
from milepost_tracker.ports.worker_store import WorkerStore

log = structlog.get_logger(__name__)
M = TypeVar("M")
D = TypeVar("D", bound=Delivery)


@dataclass(frozen=True)
class Poison(Generic[D]):
    """A delivery that can't be decoded, and why."""

    delivery: D
    reason: str


def decode_all(deliveries: Sequence[D], decode: Callable[[bytes], M]) -> tuple[list[M], list[Poison[D]]]:
    """Decode each delivery; return the messages, and those that can't be decoded."""
    good, poison = [], []
    for delivery in deliveries:
        try:
            good.append(decode(delivery.body))
        except MalformedEvent as error:
            poison.append(Poison(delivery, str(error)))
    return good, poison


async def until_stored(write: Callable[[], Awaitable[M]]) -> M:
    """Repeat a write until the store accepts it. Deliveries stay unacknowledged meanwhile, so no more are sent."""
    back_off = BackOff()
    while True:
        try:
            return await write()
        except StoreUnavailable as error:
            pause = back_off.next()
            log.warning("store_unavailable", error=str(error), retry_in=round(pause, 1))
            await asyncio.sleep(pause)


class StatusProjector:
    """Merges job events into the status view, publishes webhooks, and ends canceled jobs that nobody runs."""

    def __init__(self, store: StatusStore, reaper: Reaper, publisher: EventPublisher) -> None:
        self._store = store
        self._reaper = reaper
        self._publisher = publisher
        self._behind = timedelta(0)
        self._measured_at = float("-inf")

    @property
    def behind(self) -> timedelta:
        """The age of the oldest event of the latest batch; zero if there was none in the last 10 seconds."""
        recent = time.monotonic() - self._measured_at < 10  # noqa: PLR2004
        return self._behind if recent else timedelta(0)

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the batch is in the view, however long Redis is unavailable; return the poison messages."""
        events, poison = decode_all(deliveries, decode_event)
        if events:
            applied = await until_stored(lambda: self._store.apply(merge(events)))
            self._measure(events, applied)
            await self._publish_webhooks(events)
            if applied.orphans:
                await self._reaper.cancel(applied.orphans)
        return poison

    async def _publish_webhooks(self, events: Sequence[AnyJobMessage]) -> None:
        """Publish the webhooks of jobs that have ended, before the events are acknowledged."""
        ends = {
            (event.subject, event.sequence): event
            for event in events
            if isinstance(event, JobEvent) and event.status.terminal and event.job.callback_url is not None
        }
        await asyncio.gather(*(self._publisher.publish_webhook(end) for end in ends.values()))

    def _measure(self, events: Sequence[AnyJobMessage], applied: Applied) -> None:
        self._behind = max(timedelta(0), now() - min(event.time for event in events))
        self._measured_at = time.monotonic()
        metrics.projected.inc(len(events))
        metrics.changed.inc(applied.changed)
        metrics.lag.observe(self._behind.total_seconds())


class WorkerProjector:
    """Records announcements and heartbeats of processors, and declares the queues that they lack."""

    def __init__(self, store: WorkerStore, router: MessageRouter) -> None:
        self._store = store
        self._router = router

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the batch is stored; return the poison messages."""
        messages, poison = decode_all(deliveries, decode_worker_event)
        announced = (one.announcement for one in messages if isinstance(one, ProcessorAnnounced))
        if missing := {queue for announcement in announced for queue in announcement.missing_queues}:
            await self._router.declare_soon(missing)
        for message in messages:
            await until_stored(lambda message=message: self._store.record(message))  # type: ignore[misc]
        return poison
