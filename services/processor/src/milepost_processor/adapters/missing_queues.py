"""Has the trackers declare this processor's queues while they do not exist: a processor may declare none itself."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.back_off import BackOff
from milepost_contracts.messages.topology import Topology
from milepost_contracts.messages.worker_events import Announcement, ProcessorAnnounced
from milepost_processor.core.heartbeat import Announce
from milepost_rabbit.depth import depths

log = structlog.get_logger(__name__)

CHECK_TIMEOUT = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two checks: a tracker declares at once what is announced as missing."""


class MissingQueues:
    """Checks which queues are missing, whenever that is asked for, and announces those until they exist."""

    def __init__(
        self,
        queues: tuple[str, ...],
        topology: Topology,
        *,
        instance: str,
        started_at: datetime,
        announce: Announce,
        connection: Callable[[], AbstractConnection | None],
    ) -> None:
        #: The job queues with a missing work or quarantine queue; all of them before the first check.
        self.names: tuple[str, ...] = queues
        self._queues = queues
        self._topology = topology
        self._instance, self._started_at = instance, started_at
        self._announce = announce
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = asyncio.Event()
        self._none = threading.Event()

    # Called from any thread.

    @property
    def problems(self) -> list[str]:
        """Why the queues that are missing are, one sentence for each."""
        return [f"the queue {queue} does not exist: no tracker has declared it yet" for queue in self.names]

    def check_soon(self) -> None:
        """Check the queues, because one seems to be missing."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the process stops
                self._loop.call_soon_threadsafe(self._asked.set)

    def wait_for_none(self, within: float) -> bool:
        """Wait up to `within` seconds until no queue is missing; return whether that is so."""
        return self._none.wait(within)

    # Runs on the event publisher's loop.

    async def run(self) -> None:
        """Check, and announce what is missing, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._asked.set()
        while True:
            await self._asked.wait()
            self._asked.clear()
            back_off = BackOff(FIRST_PAUSE, LONGEST_PAUSE)
            while await self._are_missing():
                await self._announce(self._announcement())
                await asyncio.sleep(back_off.next())

    async def _are_missing(self) -> bool:
        """Return whether a queue is missing, or that can't be known now."""
        if (connection := self._connection()) is None:
            return True
        kinds = (self._topology.work, self._topology.quarantine)
        wanted = {make(queue): queue for queue in self._queues for make in kinds}
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                found = await depths(connection, wanted)
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            log.warning("queues_not_checked", error=str(error) or type(error).__name__)
            return True
        self.names = tuple(sorted({queue for one, queue in wanted.items() if one.name not in found}))
        if self.names:
            self._none.clear()
        else:
            self._none.set()
        return bool(self.names)

    def _announcement(self) -> ProcessorAnnounced:
        announcement = Announcement(
            instance=self._instance, types=(), started_at=self._started_at, missing_queues=self.names
        )
        return ProcessorAnnounced(announcement=announcement)
