"""The core: a batch of deliveries becomes one merged view for each job, and one write. Poison is singled out."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from milepost_contracts.envelope import now
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import AnyJobMessage, JobEvent, decode_event
from milepost_contracts.fleet import decode_fleet
from milepost_contracts.view import merge
from milepost_tracker import metrics
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports import Applied, Delivery, FleetStore, Outbox, StatusStore
from milepost_tracker.verdicts import Verdicts

log = structlog.get_logger(__name__)
M = TypeVar("M")
D = TypeVar("D", bound=Delivery)

BACK_OFF = (0.1, 5.0)


@dataclass(frozen=True)
class Poison(Generic[D]):
    """A delivery that can't be understood, and why."""

    delivery: D
    reason: str


def sort_out(deliveries: Sequence[D], decode: Callable[[bytes], M]) -> tuple[list[M], list[Poison[D]]]:
    """Decode each delivery; what can't be decoded is set aside, alone."""
    good, poison = [], []
    for delivery in deliveries:
        try:
            good.append(decode(delivery.body))
        except MalformedEvent as error:
            poison.append(Poison(delivery, str(error)))
    return good, poison


async def until_stored(write: Callable[[], Awaitable[M]]) -> M:
    """Try until it works: deliveries stay un-acknowledged meanwhile, so the broker holds the rest back."""
    pause, longest = BACK_OFF
    while True:
        try:
            return await write()
        except StoreUnavailable as error:
            log.warning("store_unavailable", error=str(error), retry_in=round(pause, 1))
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(longest, pause * 2)


class StatusProjector:
    """Applies job events to the status view.

    What follows from them: jobs end that are to be canceled and that nobody else has, and receivers are told of ends.
    """

    def __init__(self, store: StatusStore, verdicts: Verdicts, outbox: Outbox) -> None:
        self._store = store
        self._verdicts = verdicts
        self._outbox = outbox
        self._behind = timedelta(0)
        self._measured_at = float("-inf")

    @property
    def behind(self) -> timedelta:
        """How old the oldest event of the latest batch was, if there was one in the last 10 seconds."""
        recent = time.monotonic() - self._measured_at < 10  # noqa: PLR2004
        return self._behind if recent else timedelta(0)

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the whole batch is in the view, however long Redis is away; return what is poison."""
        events, poison = sort_out(deliveries, decode_event)
        if events:
            applied = await until_stored(lambda: self._store.apply(merge(events)))
            self._measure(events, applied)
            await self._tell_receivers(events)
            if applied.orphans:
                await self._verdicts.cancel(applied.orphans)
        return poison

    async def _tell_receivers(self, events: Sequence[AnyJobMessage]) -> None:
        """Put the webhooks of jobs that have ended on their way, before the broker forgets what they are about."""
        ends = {
            (event.subject, event.sequence): event
            for event in events
            if isinstance(event, JobEvent) and event.status.terminal and event.job.callback_url is not None
        }
        told = (self._outbox.tell(end) for end in ends.values())
        await asyncio.gather(*told)

    def _measure(self, events: Sequence[AnyJobMessage], applied: Applied) -> None:
        self._behind = max(timedelta(0), now() - min(event.time for event in events))
        self._measured_at = time.monotonic()
        metrics.projected.inc(len(events))
        metrics.changed.inc(applied.changed)
        metrics.lag.observe(self._behind.total_seconds())


class FleetProjector:
    """Keeps what processors say of themselves."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the whole batch is stored; return what is poison."""
        messages, poison = sort_out(deliveries, decode_fleet)
        for message in messages:
            await until_stored(lambda message=message: self._store.record(message))  # type: ignore[misc]
        return poison
