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
from milepost_contracts.errors import MalformedEvent, RefusedMessage
from milepost_contracts.messages.job_events import AnyJobMessage, JobEvent
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.trust import Trust
from milepost_contracts.messages.worker_events import ProcessorAnnounced, WorkerEvent
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
    """A delivery that can't be decoded or is not believed, and why."""

    delivery: D
    reason: str


def decode_all(deliveries: Sequence[D], decode: Callable[[Received], M]) -> tuple[list[M], list[Poison[D]]]:
    """Decode each delivery; return the messages, and those that can't be decoded or are not believed."""
    good, poison = [], []
    for delivery in deliveries:
        try:
            good.append(decode(delivery.received))
        except MalformedEvent as error:
            note_refusal(error, queue=delivery.queue)
            poison.append(Poison(delivery, str(error)))
    return good, poison


def note_refusal(error: MalformedEvent, *, queue: str) -> None:
    """Count a message that is well formed and not believed."""
    if isinstance(error, RefusedMessage):
        metrics.refused.labels(queue=queue).inc()
        log.warning("message_refused", queue=queue, reason=str(error))


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

    def __init__(self, trust: Trust, store: StatusStore, reaper: Reaper, publisher: EventPublisher) -> None:
        self._trust = trust
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
        events, poison = decode_all(deliveries, self._trust.job_message)
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

    def __init__(self, trust: Trust, store: WorkerStore, router: MessageRouter) -> None:
        self._trust = trust
        self._store = store
        self._router = router
        #: The queue of each type that was announced to this tracker: Redis may have lost it.
        self._queues: dict[str, str] = {}

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the batch is stored; return the poison messages."""
        messages: list[WorkerEvent] = []
        poison: list[Poison[D]] = []
        for delivery in deliveries:
            try:
                message = self._trust.worker_event(delivery.received)
                if isinstance(message, ProcessorAnnounced):
                    await self._check_moves(message, delivery.received.user_id)
                    self._queues |= {one.type: one.queue for one in message.announcement.types}
            except MalformedEvent as error:
                note_refusal(error, queue=delivery.queue)
                poison.append(Poison(delivery, str(error)))
            else:
                messages.append(message)
        announced = (one.announcement for one in messages if isinstance(one, ProcessorAnnounced))
        if missing := {queue for announcement in announced for queue in announcement.missing_queues}:
            await self._router.declare_soon(missing)
        for message in messages:
            await until_stored(lambda message=message: self._store.record(message))  # type: ignore[misc]
        return poison

    async def _check_moves(self, message: ProcessorAnnounced, user: str | None) -> None:
        """Check that no type is moved away from a queue that the announcer may not serve.

        Raises:
            RefusedMessage: One is.
        """
        if self._trust.senders.serves_all(user):
            return
        names = [one.type for one in message.announcement.types]
        heard = {name: self._queues[name] for name in names if name in self._queues}
        known = {**heard, **await until_stored(lambda: self._store.queues(names))}
        self._trust.senders.check(user, message.fact, queues=frozenset(known.values()))
