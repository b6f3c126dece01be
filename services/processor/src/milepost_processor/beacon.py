"""Says again and again which types this processor serves and that it is alive."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from importlib.metadata import version

from milepost_contracts.fleet import (
    ANNOUNCE_EVERY,
    BEAT_EVERY,
    AnyFleetMessage,
    Beat,
    Catalogue,
    ProcessorAnnounced,
    ProcessorBeat,
    ProcessorStopped,
    RunningJob,
)
from milepost_processor.registry import Registry

TRY_AGAIN = 1.0
"""Seconds after which an announcement that nobody took is made again."""

#: Publishes a message and says whether it was taken.
Announce = Callable[[AnyFleetMessage], Awaitable[bool]]


class Beacon:
    """What this processor says of itself."""

    def __init__(
        self,
        registry: Registry,
        *,
        instance: str,
        threads: int,
        started_at: datetime,
        running: Callable[[], tuple[RunningJob, ...]],
        held: Callable[[], int],
        waits: Callable[[], Mapping[str, float]],
    ) -> None:
        self._registry = registry
        self._instance = instance
        self._threads = threads
        self._started_at = started_at
        self._running = running
        self._held = held
        self._waits = waits
        self._types = tuple(definition.announcement() for definition in registry.definitions.values())

    async def shine(self, announce: Announce) -> None:
        """Announce and beat until cancelled. Who is heard to be alive has been heard to serve its types."""
        beats_between = round(ANNOUNCE_EVERY / BEAT_EVERY)
        beats = 0
        heard = False
        while True:
            if not heard or beats % beats_between == 0:
                catalogue = Catalogue(instance=self._instance, types=self._types)
                heard = await announce(ProcessorAnnounced(catalogue=catalogue))
            if heard:
                await announce(ProcessorBeat(beat=self._beat()))
                beats += 1
            await asyncio.sleep(BEAT_EVERY.total_seconds() if heard else TRY_AGAIN)

    async def go_out(self, announce: Announce) -> None:
        """Say that this processor takes no more jobs."""
        await announce(ProcessorStopped(beat=self._beat()))

    def _beat(self) -> Beat:
        return Beat(
            instance=self._instance,
            started_at=self._started_at,
            types=tuple(self._registry.definitions),
            queues=self._registry.queues,
            threads=self._threads,
            running=self._running(),
            held=self._held(),
            waits=dict(self._waits()),
            version=version("milepost-processor"),
        )
