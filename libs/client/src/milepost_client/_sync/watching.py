# Made from _async/watching.py by 'make contracts': change it there.
"""Following jobs: over a stream of events, and by asking again where there is none."""

from collections.abc import Generator, Sequence
from contextlib import closing
from time import monotonic, sleep
from typing import TypeVar

from httpx_sse import ServerSentEvent

from milepost_client._sync.transport import NoStream, Transport
from milepost_client._sync.view import JobView
from milepost_client.errors import JobNotFound, Refused, StillRunning, Unavailable
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import JobEvent, decode_event

LONGEST_WAIT = 20.0
"""Seconds for which the gateway is asked to wait for a change."""
PATIENCE = 30.0
"""Seconds for which a gateway that does not answer is borne."""
MARGIN = 0.5
"""Seconds by which a look may outlast what time there is: an answer is on its way."""
MOST_IN_A_STREAM = 100
AGAIN = 1.0
"""Seconds until a stream that ended before its jobs is opened again."""

V = TypeVar("V", bound=JobView)


def follow(
    transport: Transport, handles: Sequence[V], *, timeout: float | None = None, to_end: bool = False
) -> Generator[V, None]:
    """Yield each handle whenever its document has changed, until all the jobs have ended.

    Args:
        transport: To the gateway.
        handles: Of the jobs.
        timeout: After so many seconds it is enough.
        to_end: What comes before the end of a job does not matter.

    Raises:
        StillRunning: They have not all ended within `timeout` seconds.
        Unavailable: The gateway has not answered for half a minute.
        JobNotFound: Nothing is kept of a job any more.
    """
    by_run = sorted(handles, key=lambda handle: handle.document.run)  # of one job, who knows the last run
    live = {handle.id: handle for handle in by_run if not handle.document.status.terminal}
    same = [handle for handle in handles if live.get(handle.id, handle) is not handle]
    with closing(_followed(transport, live, timeout, to_end=to_end)) as changed:
        for handle in changed:
            yield handle
            for other in same:
                if other.id == handle.id:
                    other.document = handle.document
                    yield other


def _followed(transport: Transport, live: dict[str, V], timeout: float | None, *, to_end: bool) -> Generator[V, None]:
    # A stream says nothing while nothing happens, so it can't be left on time; a look can.
    if timeout is None and not to_end and len(live) <= MOST_IN_A_STREAM:
        with closing(_streamed(transport, live)) as changed:
            for handle in changed:
                yield handle
    deadline = None if timeout is None else monotonic() + timeout
    with closing(_polled(live, deadline, to_end=to_end)) as changed:
        for handle in changed:
            yield handle


def _streamed(transport: Transport, live: dict[str, V]) -> Generator[V, None]:
    """Take those that have ended out of `live`; return with the others where nobody tells events."""
    heard, answered = False, monotonic()
    while live:
        order = list(live)  # who has ended may be forgotten meanwhile
        versions = [str(handle.heard_up_to) for handle in live.values()]
        try:
            with closing(transport.events(order, ".".join(versions))) as events:
                for event in events:
                    heard, answered = True, monotonic()
                    handle = _heard(live, order, event)
                    if handle is not None:
                        yield handle
                    if not live:
                        return
            for handle in list(live.values()):  # all have ended, or the gateway is going
                if handle.look():
                    _drop_ended(live)
                    yield handle
            answered = monotonic()
            sleep(AGAIN if live else 0)
        except NoStream:
            return
        except Refused as error:
            if isinstance(error, JobNotFound):
                raise
            return
        except Unavailable as error:
            if not heard:  # it may be a proxy that holds everything back
                return
            if monotonic() - answered > PATIENCE:
                raise
            sleep(error.retry_after)


def _heard(live: dict[str, V], order: Sequence[str], told: ServerSentEvent) -> V | None:
    """Return the handle that an event changed, if it did."""
    try:
        event = decode_event(told.data.encode())
    except MalformedEvent:  # a gap, before a snapshot; or of a newer gateway
        return None
    handle = live.get(event.subject)
    if handle is None or not isinstance(event, JobEvent):
        return None
    if event.job.run < handle.document.run:
        raise Unavailable("No tracker has seen yet that the job runs again.", retry_after=AGAIN)
    if event.status.terminal:
        changed = handle.look()
        _drop_ended(live)
        return handle if changed else None
    version = int(told.id.split(".")[order.index(event.subject)])
    return handle if handle.heard(event, version) else None


def _polled(live: dict[str, V], deadline: float | None, *, to_end: bool) -> Generator[V, None]:
    answered = monotonic()
    for handle in live.values():
        handle.look_again_at = min(handle.look_again_at, answered)
    while live:
        handle = min(live.values(), key=lambda one: one.look_again_at)
        until = handle.look_again_at if deadline is None else min(handle.look_again_at, deadline)
        sleep(max(0.0, until - monotonic()))
        left = LONGEST_WAIT if deadline is None else deadline - monotonic()
        if left <= 0:
            raise StillRunning(f"job {handle.id} has not ended in the time given")
        try:
            wait = min(LONGEST_WAIT, left) if len(live) == 1 else 0.0
            changed = handle.look(wait=wait, to_end=to_end, at_most=None if deadline is None else left + MARGIN)
        except Unavailable as error:
            if monotonic() - answered > PATIENCE:
                raise
            handle.look_again_at = monotonic() + error.retry_after
            continue
        answered = monotonic()
        _drop_ended(live)
        if changed:
            yield handle


def _drop_ended(live: dict[str, V]) -> None:
    for handle in list(live.values()):
        if handle.document.status.terminal:
            del live[handle.id]
