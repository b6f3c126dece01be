"""Watching jobs: over an event stream, or by polling if there is none."""

from asyncio import sleep
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import monotonic
from typing import TypeVar

from httpx_sse import ServerSentEvent

from milepost_client._async.transport import AsyncTransport, NoStream
from milepost_client._async.view import AsyncJobView
from milepost_client.errors import JobNotFound, Refused, StillRunning, Unavailable
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.job_events import JobEvent, decode_event

MAX_WAIT = 20.0
"""Seconds that one long poll asks the gateway to wait for a change."""
OUTAGE_TIMEOUT = 30.0
"""Seconds without an answer after which watching fails with `Unavailable`."""
RESPONSE_MARGIN = 0.5
"""Seconds that a poll may take beyond the deadline, because the response may already be on its way."""
MAX_STREAM_JOBS = 100
STREAM_RETRY_INTERVAL = 1.0
"""Seconds until a stream that ended before its jobs is reopened."""

V = TypeVar("V", bound=AsyncJobView)


async def watch_jobs(
    transport: AsyncTransport, handles: Sequence[V], *, timeout: float | None = None, to_end: bool = False
) -> AsyncGenerator[V, None]:
    """Yield each handle whose document has changed, until all jobs have ended.

    Args:
        transport: Transport to the gateway.
        handles: Handles of the jobs.
        timeout: Seconds to wait; unlimited by default.
        to_end: Wait for the end of each job only, and skip changes before it.

    Raises:
        StillRunning: Not all jobs have ended within `timeout` seconds.
        Unavailable: The gateway has not answered for 30 seconds.
        JobNotFound: A job was deleted, or is past its retention.
    """
    by_run = sorted(handles, key=lambda handle: handle.document.run)  # of several handles of a job, keep the latest run
    live = {handle.id: handle for handle in by_run if not handle.document.status.terminal}
    same = [handle for handle in handles if live.get(handle.id, handle) is not handle]
    async with aclosing(_watch_live(transport, live, timeout, to_end=to_end)) as changed:
        async for handle in changed:
            yield handle
            for other in same:
                if other.id == handle.id:
                    other.document = handle.document
                    yield other


async def _watch_live(
    transport: AsyncTransport, live: dict[str, V], timeout: float | None, *, to_end: bool
) -> AsyncGenerator[V, None]:
    # A stream without events can't be left at the deadline; a poll has a timeout.
    if timeout is None and not to_end and len(live) <= MAX_STREAM_JOBS:
        async with aclosing(_stream_changes(transport, live)) as changed:
            async for handle in changed:
                yield handle
    deadline = None if timeout is None else monotonic() + timeout
    async with aclosing(_poll_changes(live, deadline, to_end=to_end)) as changed:
        async for handle in changed:
            yield handle


async def _stream_changes(transport: AsyncTransport, live: dict[str, V]) -> AsyncGenerator[V, None]:
    """Watch over event streams and remove ended jobs from `live`; return early if no stream is available."""
    received, answered = False, monotonic()
    while live:
        order = list(live)  # only live jobs: one that has ended may be deleted meanwhile
        versions = [str(handle.stream_version) for handle in live.values()]
        try:
            async with aclosing(transport.events(order, ".".join(versions))) as events:
                async for event in events:
                    received, answered = True, monotonic()
                    handle = await _apply(live, order, event)
                    if handle is not None:
                        yield handle
                    if not live:
                        return
            for handle in list(live.values()):  # the stream ended: all jobs have ended, or the gateway shuts down
                if await handle.poll():
                    _drop_ended(live)
                    yield handle
            answered = monotonic()
            await sleep(STREAM_RETRY_INTERVAL if live else 0)
        except NoStream:
            return
        except Refused as error:
            if isinstance(error, JobNotFound):
                raise
            return
        except Unavailable as error:
            if not received:  # a proxy may buffer the stream
                return
            if monotonic() - answered > OUTAGE_TIMEOUT:
                raise
            await sleep(error.retry_after)


async def _apply(live: dict[str, V], order: Sequence[str], message: ServerSentEvent) -> V | None:
    """Apply an event; return the handle whose document it changed, or None."""
    try:
        event = decode_event(message.data.encode())
    except MalformedEvent:  # a gap event, which a snapshot follows; or an event of a newer gateway
        return None
    handle = live.get(event.subject)
    if handle is None or not isinstance(event, JobEvent):
        return None
    if event.job.run < handle.document.run:
        raise Unavailable("No tracker has seen the job's new run yet.", retry_after=STREAM_RETRY_INTERVAL)
    if event.status.terminal:
        changed = await handle.poll()
        _drop_ended(live)
        return handle if changed else None
    version = int(message.id.split(".")[order.index(event.subject)])
    return handle if handle.apply_event(event, version) else None


async def _poll_changes(live: dict[str, V], deadline: float | None, *, to_end: bool) -> AsyncGenerator[V, None]:
    answered = monotonic()
    for handle in live.values():
        handle.poll_at = min(handle.poll_at, answered)
    while live:
        handle = min(live.values(), key=lambda one: one.poll_at)
        until = handle.poll_at if deadline is None else min(handle.poll_at, deadline)
        await sleep(max(0.0, until - monotonic()))
        left = MAX_WAIT if deadline is None else deadline - monotonic()
        if left <= 0:
            raise StillRunning(f"Job {handle.id} has not ended within the timeout.")
        try:
            wait = min(MAX_WAIT, left) if len(live) == 1 else 0.0
            max_time = None if deadline is None else left + RESPONSE_MARGIN
            changed = await handle.poll(wait=wait, to_end=to_end, max_time=max_time)
        except Unavailable as error:
            if monotonic() - answered > OUTAGE_TIMEOUT:
                raise
            handle.poll_at = monotonic() + error.retry_after
            continue
        answered = monotonic()
        _drop_ended(live)
        if changed:
            yield handle


def _drop_ended(live: dict[str, V]) -> None:
    for handle in list(live.values()):
        if handle.document.status.terminal:
            del live[handle.id]
