"""The core: a batch of deliveries becomes one merged view for each job, and one write. Poison is singled out."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from milepost_contracts.envelope import now
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import AnyJobMessage, decode_event
from milepost_contracts.fleet import decode_fleet
from milepost_contracts.view import merge
from milepost_tracker import metrics
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports import Delivery, FleetStore, StatusStore

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


class StatusProjector:
    """Applies job events to the status view."""

    def __init__(self, store: StatusStore) -> None:
        self._store = store

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the whole batch is in the view, however long Redis is away; return what is poison."""
        events, poison = sort_out(deliveries, decode_event)
        if events:
            changed = await _until_stored(lambda: self._store.apply(merge(events)))
            _measure(events, changed)
        return poison


class FleetProjector:
    """Keeps what processors say of themselves."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store

    async def project(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the whole batch is stored; return what is poison."""
        messages, poison = sort_out(deliveries, decode_fleet)
        for message in messages:
            await _until_stored(lambda message=message: self._store.record(message))  # type: ignore[misc]
        return poison


async def _until_stored(write: Callable[[], Awaitable[M]]) -> M:
    """Try until it works: deliveries stay un-acknowledged meanwhile, so the broker holds the rest back."""
    pause, longest = BACK_OFF
    while True:
        try:
            return await write()
        except StoreUnavailable as error:
            log.warning("store_unavailable", error=str(error), retry_in=round(pause, 1))
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(longest, pause * 2)


def _measure(events: Sequence[AnyJobMessage], changed: int) -> None:
    metrics.projected.inc(len(events))
    metrics.changed.inc(changed)
    metrics.lag.observe(max(0.0, (now() - min(event.time for event in events)).total_seconds()))
