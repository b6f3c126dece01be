"""Publishes events on one thread with one event loop and one connection, so that handlers never wait for reports.

Lifecycle events are repeated until the broker confirms them. A start is published at the next tick, unless the run has
ended by then (ADR 23). Progress is coalesced: at most one event per job and `PROGRESS_INTERVAL`, with the current
state; one that can't be published is dropped, because the next one carries all of it again (law 8).
"""

import asyncio
import os
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

from milepost import Run
from milepost_contracts.messages.job_events import JobEvent, encode_event
from milepost_contracts.messages.topology import Topology
from milepost_contracts.messages.worker_events import WorkerEvent, encode_worker_event
from milepost_processor import metrics
from milepost_processor.errors import Stopping
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_rabbit.declare import require
from milepost_rabbit.errors import RabbitError, TopologyMissing
from milepost_rabbit.publisher import CONFIRM_TIMEOUT, RabbitPublisher

log = structlog.get_logger(__name__)

PROGRESS_INTERVAL = 0.1
"""Minimum seconds between two progress events of a job."""
TICK = 0.02
"""Seconds between two checks for starts and progress to publish."""


@dataclass
class _ReportedRun:
    run: Run
    started: Callable[[], JobEvent]
    progressed: Callable[[], JobEvent]
    #: Whether its start was published. If the run ends before the next tick, only its end is.
    start_published: bool = False
    #: The version of the run's report that was published last.
    published: int = 0
    #: When progress may be published again, on the loop's clock.
    not_before: float = 0.0


class RabbitEventPublisher:
    """Implements `ports.event_publisher.EventPublisher`; is up once a tracker has declared the exchanges."""

    def __init__(self, url: str, topology: Topology, *, heartbeat: timedelta) -> None:
        self._url = url
        self._heartbeat = int(heartbeat.total_seconds())
        self._topology = topology
        self._reported: dict[Run, _ReportedRun] = {}
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event publisher", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._outgoing: deque[tuple[JobEvent, Future[None]]] = deque()
        self._woken = self._closed = False
        self._pid = os.getpid()
        self._publisher: RabbitPublisher | None = None
        #: What it waits for while it is not up.
        self.unready = "rabbitmq"
        #: RabbitMQ's version, once it is connected.
        self.broker_version = ""
        #: Why this process can't go on, once it can't.
        self.broken: str | None = None

    # Called from any thread.

    def start(self) -> None:
        """Connect in the background; events wait until it is connected."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_up(self) -> bool:
        return self._publisher is not None and self._publisher.link.is_up

    @property
    def connection(self) -> AbstractConnection | None:
        """The current connection, for the tasks on this loop; `None` while it is not up."""
        return None if self._publisher is None else self._publisher.link.connection

    def wait_up(self, within: float) -> bool:
        """Wait up to `within` seconds for the connection and the topology; return whether they are there."""
        if self._publisher is None:
            return False
        try:
            self.spawn(asyncio.wait_for(self._publisher.link.wait_up(), within)).result()
        except TimeoutError:
            return False
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Run a coroutine on the publisher's loop, until it ends or the publisher is closed."""
        return asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop)

    def supervise(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine until the publisher is closed; if it ends before, `broken` has the reason."""
        name = getattr(work, "__qualname__", repr(work))

        def ended(future: Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self.broken = f"{type(error).__name__}: {error}"
            elif not self._closed:
                self.broken = f"a task of the event publisher has ended: {name}"

        self.spawn(work).add_done_callback(ended)

    def publish_soon(self, event: JobEvent) -> Future[None]:
        """Publish an event; the future resolves when it is confirmed, and is cancelled if the process stops before."""
        confirmed: Future[None] = Future()
        self._enqueue(event, confirmed)
        return confirmed

    def publish(self, event: JobEvent) -> None:
        if os.getpid() != self._pid:
            os._exit(1)  # a child that a handler forked has returned from it: the handler's end is not the child's
        try:
            self.publish_soon(event).result()
        except CancelledError as error:
            raise Stopping from error

    def _enqueue(self, event: JobEvent, confirmed: Future[None]) -> None:
        """Enqueue an event for the loop. The loop is woken once for all events that are enqueued before it runs."""
        self._outgoing.append((event, confirmed))
        if self._closed:  # checked last: `_close` cancels what was enqueued before
            raise Stopping
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._publish_all)
            except RuntimeError as error:  # the loop was closed meanwhile
                raise Stopping from error

    def report(self, run: Run, *, started: Callable[[], JobEvent], progressed: Callable[[], JobEvent]) -> None:
        self._reported[run] = _ReportedRun(run, started, progressed)

    def stop_reporting(self, run: Run) -> None:
        self._reported.pop(run, None)

    def close(self) -> None:
        """Give up on events that are not confirmed yet, and close the connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # Runs on the publisher's loop.

    async def announce(self, message: WorkerEvent) -> bool:
        """Publish an announcement or heartbeat, and return whether it was confirmed. A failure is logged."""
        try:
            await self._publish(message, encode_worker_event(message), exchange=self._topology.workers)
        except RabbitError as error:
            log.warning("announcement_failed", fact=message.fact, error=str(error))
            return False
        return True

    async def _open(self) -> None:
        self._publisher = RabbitPublisher(
            self._url,
            name="processor",
            prepare=self._check,
            heartbeat=self._heartbeat,
        )
        self._publisher.link.start()
        self.supervise(self._publisher.link.ended())
        self.supervise(self._tick())

    async def _check(self, connection: AbstractConnection) -> None:
        try:
            await require(connection, (self._topology.jobs, self._topology.workers))
        except TopologyMissing as error:
            self.unready = str(error)
            raise
        self.unready = "rabbitmq"
        self.broker_version = str(connection.transport.connection.server_properties["version"])  # type: ignore[union-attr]

    async def _tracked(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine on a loop is in a task
        self._tasks.add(task)
        try:
            await work
        except TimeoutError:
            raise
        except Exception:
            log.exception("publisher_task_failed")
            raise
        finally:
            self._tasks.discard(task)

    async def _close(self) -> None:
        self._closed = True
        await cancel_and_wait(self._tasks)
        while self._outgoing:
            self._outgoing.popleft()[1].cancel()
        if self._publisher is not None:
            await self._publisher.link.close()

    async def _publish(self, message: JobEvent | WorkerEvent, body: bytes, *, exchange: Any) -> None:
        assert self._publisher is not None  # noqa: S101 - `start` made it
        await self._publisher.publish(
            exchange, message.routing_key, body, correlation_id=message.subject, within=CONFIRM_TIMEOUT
        )

    def _publish_all(self) -> None:
        self._woken = False
        while self._outgoing:
            self._begin_publish(*self._outgoing.popleft())

    def _begin_publish(self, event: JobEvent, confirmed: Future[None]) -> None:
        task = self._loop.create_task(self._publish_confirmed(event, confirmed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish_confirmed(self, event: JobEvent, confirmed: Future[None]) -> None:
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
            reported = list(self._reported.values())
            for one in reported:
                if not one.start_published:
                    self._report_start(one)
            changed = [one for one in reported if one.run.version != one.published and one.not_before <= at]
            await asyncio.gather(*(self._report_progress(one) for one in changed))

    def _report_start(self, reported: _ReportedRun) -> None:
        reported.start_published = True
        try:
            event = reported.started()
        except Exception:
            log.exception("start_not_reported")
            return
        self._begin_publish(event, Future())

    async def _report_progress(self, reported: _ReportedRun) -> None:
        reported.published = reported.run.version
        reported.not_before = self._loop.time() + PROGRESS_INTERVAL
        try:
            event = reported.progressed()
        except Exception:
            log.exception("progress_not_reported")
            return
        try:
            await self._publish(event, encode_event(event), exchange=self._topology.jobs)
        except RabbitError:
            metrics.progress_dropped.inc()
            with suppress(KeyError):
                self._reported[reported.run].published = -1
