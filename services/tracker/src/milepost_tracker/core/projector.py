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

MAX_DECLARED = 100
"""How many queues of one announcement are declared. The next announcement names those that are missing still."""


@dataclass(frozen=True)
class Poison(Generic[D]):
    """A delivery that can't be decoded or is not believed, and why."""

    delivery: D
    reason: str


FAULTS = (MalformedEvent, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)
"""What one message may raise, believed or not, wherever it is handled: it alone is set aside then, and neither ends a
tracker nor blocks its neighbours. What Redis and the broker raise is not among them."""


def decode_all(deliveries: Sequence[D], decode: Callable[[Received], M]) -> tuple[list[tuple[D, M]], list[Poison[D]]]:
    """Decode each delivery; return the messages, and those that can't be decoded or are not believed."""
    good: list[tuple[D, M]] = []
    poison: list[Poison[D]] = []
    for delivery in deliveries:
        try:
            good.append((delivery, decode(delivery.received)))
        except FAULTS as error:
            poison.append(Poison(delivery, note_fault(error, queue=delivery.queue)))
    return good, poison


async def each_alone(good: Sequence[tuple[D, M]], act: Callable[[D, M], Awaitable[object]]) -> list[Poison[D]]:
    """Act on each message; return those that can't be handled."""
    poison: list[Poison[D]] = []
    for delivery, message in good:
        try:
            await act(delivery, message)
        except FAULTS as error:
            poison.append(Poison(delivery, note_fault(error, queue=delivery.queue)))
    return poison


def note_fault(error: Exception, *, queue: str) -> str:
    """Count a message that is not believed, log one that can't be handled; return why it is set aside."""
    if isinstance(error, RefusedMessage):
        metrics.refused.labels(queue=queue).inc()
        log.warning("message_refused", queue=queue, reason=str(error))
    elif not isinstance(error, MalformedEvent):
        log.error("message_not_handled", queue=queue, exc_info=error)
        return f"an error in the tracker: {type(error).__name__}: {error}"
    return str(error)


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
        good, poison = decode_all(deliveries, self._trust.job_message)
        if not good:
            return poison
        try:
            await self._project([event for _, event in good])
        except FAULTS:  # of one of them; to project the others again changes nothing
            poison += await each_alone(good, lambda _, event: self._project([event]))
        return poison

    async def _project(self, events: Sequence[AnyJobMessage]) -> None:
        applied = await until_stored(lambda: self._store.apply(merge(events)))
        self._measure(events, applied)
        await self._publish_webhooks(events)
        if applied.orphans:
            await self._reaper.cancel(applied.orphans)

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
        announced, poison = decode_all(deliveries, self._trust.worker_event)
        poison += await each_alone(announced, self._check)
        set_aside = {id(one.delivery) for one in poison}
        good = [(delivery, message) for delivery, message in announced if id(delivery) not in set_aside]
        if missing := {queue for _, message in good for queue in _missing_queues(message)}:
            await self._router.declare_soon(missing)
        return poison + await each_alone(good, self._record)

    async def _check(self, delivery: Delivery, message: WorkerEvent) -> None:
        if isinstance(message, ProcessorAnnounced):
            await self._check_moves(message, delivery.received.user_id)
            self._queues |= {one.type: one.queue for one in message.announcement.types}

    async def _record(self, _: Delivery, message: WorkerEvent) -> None:
        await until_stored(lambda: self._store.record(message))

    async def _check_moves(self, message: ProcessorAnnounced, user: str | None) -> None:
        """Check that no type is moved away from a queue that the announcer may not serve.

        Raises:
            RefusedMessage: One is.
        """
        if self._trust.senders.serves_all(user):
            return
        names = [one.type for one in message.announcement.types]
        announced = {name: self._queues[name] for name in names if name in self._queues}
        known = {**announced, **await until_stored(lambda: self._store.queues(names))}
        self._trust.senders.check(user, message.fact, queues=frozenset(known.values()))


def _missing_queues(message: WorkerEvent) -> Sequence[str]:
    return message.announcement.missing_queues[:MAX_DECLARED] if isinstance(message, ProcessorAnnounced) else ()
