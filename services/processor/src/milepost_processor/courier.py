"""The courier: one thread, one event loop, one connection; it brings events to the broker so that handlers never wait.

Lifecycle events are tried until the broker confirms them. A start is told at the next tick, if the run is not over by
then (ADR 23). Progress is coalesced: at most one event a job and tick, of the state at that moment; what can't be
published is dropped, for the next one says it all again (law 8).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
import uvloop
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost import Run
from milepost_contracts.events import JobEvent, encode_event
from milepost_contracts.fleet import AnyFleetMessage, encode_fleet
from milepost_contracts.topology import Topology
from milepost_processor import metrics
from milepost_processor.errors import Stopping
from milepost_rabbit.cancelling import end
from milepost_rabbit.declare import declare
from milepost_rabbit.errors import RabbitError, TopologyMismatch
from milepost_rabbit.publisher import CONFIRM_WITHIN, RabbitPublisher

log = structlog.get_logger(__name__)

GAP = 0.1
"""Seconds between two progress events of a job, at least."""
TICK = 0.02
"""Seconds between two looks at what there is to tell."""
DECLARED_WITHIN = 10.0


@dataclass
class _Followed:
    run: Run
    started: Callable[[], JobEvent]
    progressed: Callable[[], JobEvent]
    #: Whether its start is told; of a run that is over before the next look, its end alone is.
    seen: bool = False
    told: int = 0
    #: When it may be told again, on the loop's clock.
    not_before: float = 0.0


class Courier:
    """Implements `ports.Outbox`; `start` returns once the broker knows this processor's queues."""

    def __init__(self, url: str, topology: Topology, queues: tuple[str, ...], *, heartbeat: timedelta) -> None:
        self._url = url
        self._heartbeat = int(heartbeat.total_seconds())
        self._topology = topology
        self._queues = queues
        self._followed: dict[Run, _Followed] = {}
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="courier", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._outgoing: deque[tuple[JobEvent, Future[None]]] = deque()
        self._woken = self._closed = False
        self._publisher: RabbitPublisher | None = None
        #: Of RabbitMQ, once it is connected.
        self.broker_version = ""
        #: Why this process can't go on, once it can't.
        self.broken: str | None = None

    # Called from any thread.

    def start(self) -> None:
        """Connect in the background; everything given to the courier waits for that."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    @property
    def is_up(self) -> bool:
        return self._publisher is not None and self._publisher.link.is_up

    def wait_up(self, within: float) -> bool:
        """Whether the broker is connected and the topology declared, waiting for it a while."""
        if self._publisher is None:
            return False
        try:
            self.spawn(asyncio.wait_for(self._publisher.link.wait_up(), within)).result()
        except TimeoutError:
            return False
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Run something of this process on the courier's loop, until it ends or the courier is closed."""
        return asyncio.run_coroutine_threadsafe(self._kept(work), self._loop)

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that must not end before the courier is closed; if it does, the courier is `broken`."""

        def ended(future: Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                self.broken = f"{type(error).__name__}: {error}"

        self.spawn(work).add_done_callback(ended)

    def deliver(self, event: JobEvent) -> None:
        confirmed: Future[None] = Future()
        self._hand_over(event, confirmed)
        try:
            confirmed.result()
        except CancelledError as error:
            raise Stopping from error

    def _hand_over(self, event: JobEvent, confirmed: Future[None]) -> None:
        """Give an event to the loop, which is woken once for all that come before it looks."""
        self._outgoing.append((event, confirmed))
        if self._closed:  # looked at last: what was put there before, `_close` has seen
            raise Stopping
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._bring_all)
            except RuntimeError as error:  # the loop was closed meanwhile
                raise Stopping from error

    def follow(self, run: Run, *, started: Callable[[], JobEvent], progressed: Callable[[], JobEvent]) -> None:
        self._followed[run] = _Followed(run, started, progressed)

    def unfollow(self, run: Run) -> None:
        self._followed.pop(run, None)

    def declare_again(self) -> None:
        """Declare the topology anew: somebody has deleted a queue of ours."""

        async def declare_now() -> None:
            if self._publisher is not None and (connection := self._publisher.link.connection) is not None:
                try:
                    async with asyncio.timeout(DECLARED_WITHIN):
                        await self._declare(connection)
                except (*CONNECTION_EXCEPTIONS, TopologyMismatch, TimeoutError) as error:
                    log.warning("topology_not_declared", error=str(error))

        self.spawn(declare_now())

    def close(self) -> None:
        """Give up what is not confirmed yet, and close the connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # Runs on the courier's loop.

    async def announce(self, message: AnyFleetMessage) -> bool:
        """Publish something about this processor; return whether it was taken. A failure is only logged."""
        try:
            await self._publish(message, encode_fleet(message), exchange=self._topology.fleet)
        except RabbitError as error:
            log.warning("announcement_failed", fact=message.fact, error=str(error))
            return False
        return True

    async def _open(self) -> None:
        self._publisher = RabbitPublisher(
            self._url,
            name="processor",
            prepare=self._declare,
            heartbeat=self._heartbeat,
        )
        self._publisher.link.start()
        self.keep(self._tick())

    async def _declare(self, connection: AbstractConnection) -> None:
        topology = self._topology
        queues = (topology.parked, *topology.ladder, *topology.work_queues(self._queues))
        try:
            await declare(connection, self._topology.exchanges, queues)
        except TopologyMismatch as error:
            self.broken = str(error)
            raise
        self.broker_version = str(connection.transport.connection.server_properties["version"])  # type: ignore[union-attr]

    async def _kept(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine on a loop is in a task
        self._tasks.add(task)
        try:
            await work
        except TimeoutError:
            raise
        except Exception:
            log.exception("courier_task_failed")
            raise
        finally:
            self._tasks.discard(task)

    async def _close(self) -> None:
        self._closed = True
        await end(self._tasks)
        while self._outgoing:
            self._outgoing.popleft()[1].cancel()
        if self._publisher is not None:
            await self._publisher.link.close()

    async def _publish(self, message: JobEvent | AnyFleetMessage, body: bytes, *, exchange: Any) -> None:
        assert self._publisher is not None  # noqa: S101 - `start` made it
        await self._publisher.publish(
            exchange, message.routing_key, body, correlation_id=message.subject, within=CONFIRM_WITHIN
        )

    def _bring_all(self) -> None:
        self._woken = False
        while self._outgoing:
            self._begin_to_bring(*self._outgoing.popleft())

    def _begin_to_bring(self, event: JobEvent, confirmed: Future[None]) -> None:
        task = self._loop.create_task(self._bring(event, confirmed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring(self, event: JobEvent, confirmed: Future[None]) -> None:
        """Publish until the broker has confirmed it, however long that takes."""
        assert self._publisher is not None  # noqa: S101 - `start` made it
        try:
            await self._publisher.publish_until_confirmed(
                self._topology.jobs, event.routing_key, encode_event(event), correlation_id=event.job.id
            )
        except asyncio.CancelledError:
            confirmed.cancel()
            raise
        except Exception as error:
            log.exception("event_not_published")
            confirmed.set_exception(error)
        else:
            confirmed.set_result(None)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            at = self._loop.time()
            followed = list(self._followed.values())
            for one in followed:
                if not one.seen:
                    self._tell_start(one)
            fresh = [one for one in followed if one.run.version != one.told and one.not_before <= at]
            await asyncio.gather(*(self._tell(one) for one in fresh))

    def _tell_start(self, followed: _Followed) -> None:
        followed.seen = True
        try:
            event = followed.started()
        except Exception:
            log.exception("start_not_reported")
            return
        self._begin_to_bring(event, Future())

    async def _tell(self, followed: _Followed) -> None:
        followed.told = followed.run.version
        followed.not_before = self._loop.time() + GAP
        try:
            event = followed.progressed()
        except Exception:
            log.exception("progress_not_reported")
            return
        try:
            await self._publish(event, encode_event(event), exchange=self._topology.jobs)
        except RabbitError:
            metrics.progress_dropped.inc()
            with suppress(KeyError):
                self._followed[followed.run].told = -1
