"""Job streams: waiting until a document changes, and the events of jobs."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from milepost_gateway.core.status import Statuses
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports.change_feed import ChangeFeed
from milepost_gateway.ports.status_store import Event, StatusStore, StoredDocument

READ_INTERVAL = timedelta(seconds=2)
"""How often a waiting request reads its job without a notification, and checks that its client is still connected."""

SNAPSHOT = "snapshot"
"""The first event of a stream that is not resumed, and after a gap: the latest event of the job."""
GAP = "gap"
"""The mark that events are missing: a snapshot, or the start of a tag's stream, follows."""

_VERSION = re.compile(r"[0-9]{1,15}")

IsConnected = Callable[[], Awaitable[bool]]


async def always() -> bool:
    """Stay connected to the end."""
    return True


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """An event of one of the jobs that a stream follows."""

    #: The position in all of these jobs after this event: a stream that is opened with it resumes there.
    cursor: str
    event: Event


@dataclass(frozen=True, kw_only=True)
class JobStream:
    """Follows jobs by their ids, for one deployment."""

    statuses: Statuses
    store: StatusStore
    change_feed: ChangeFeed
    #: How long to wait for a tracker to see what was accepted just now.
    projection_timeout: timedelta = timedelta(seconds=2)

    async def wait_for(
        self,
        job_id: str,
        *,
        tenant: str,
        until: Callable[[StoredDocument], bool],
        max_wait: timedelta,
        is_connected: IsConnected = always,
    ) -> StoredDocument:
        """Return the job's document once `until` holds, or as it is after `max_wait` or when the client has gone.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `Statuses.get` does.
        """
        stored = await self.statuses.get(job_id, tenant=tenant)
        if until(stored) or not max_wait:
            return stored
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait.total_seconds()
        async with self.change_feed.listen([job_id]) as listener:
            stored = await self.statuses.get(job_id, tenant=tenant)
            while not until(stored) and (left := deadline - loop.time()) > 0:
                await listener.wait(min(left, READ_INTERVAL.total_seconds()))
                if not await is_connected():
                    break
                stored = await self.statuses.get(job_id, tenant=tenant)
        return stored

    async def has_more(self, job_ids: Sequence[str], *, tenant: str, since: Sequence[int]) -> bool:
        """Return whether there will be events of some jobs after these versions: not if all ended with them.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `Statuses.get` does, for any of them.
        """
        return any([await self._job_has_more(job_id, tenant, at) for job_id, at in zip(job_ids, since, strict=True)])

    async def _job_has_more(self, job_id: str, tenant: str, since: int) -> bool:
        stored = await self.statuses.get(job_id, tenant=tenant)
        if not (since and stored.terminal) or since > stored.version:
            return True
        read = await self.store.events(job_id, since)
        return read is None or read.gap or bool(read.events)

    async def events(
        self, job_ids: Sequence[str], *, since: Sequence[int]
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """Yield the events of some jobs after these versions, until all have ended; now and then an empty sequence.

        Each job begins with a snapshot, unless all events after its version are still kept. A slow reader gets every
        lifecycle event that is kept, and the latest progress only.
        """
        reader = _Reader(self.store, job_ids, since)
        async with self.change_feed.listen(job_ids) as listener:
            while True:
                for number in reader.take_changed():
                    if events := await reader.read(number):
                        yield events
                if reader.done:
                    return
                reader.mark_changed(await listener.wait(READ_INTERVAL.total_seconds()))
                yield ()


class _Reader:
    """The position of one stream in each of its jobs."""

    def __init__(self, store: StatusStore, job_ids: Sequence[str], since: Sequence[int]) -> None:
        self._store = store
        self._job_ids = job_ids
        self._since = list(since)
        #: The numbers of the jobs that have not ended, and of those that have changed.
        self._open = set(range(len(job_ids)))
        self._changed = set(self._open)

    @property
    def done(self) -> bool:
        return not self._open

    def mark_changed(self, job_ids: Collection[str]) -> None:
        self._changed |= {number for number in self._open if self._job_ids[number] in job_ids}

    def take_changed(self) -> Sequence[int]:
        numbers, self._changed = sorted(self._changed), set()
        return numbers

    async def read(self, number: int) -> Sequence[StreamEvent]:
        """Return the new events of a job; none while Redis is away: the job is read again then."""
        try:
            events, ended = await self._after(self._job_ids[number], self._since[number])
        except StoreUnavailable:
            self._changed.add(number)
            return ()
        if ended:
            self._open.discard(number)
        return [self._stream_event(number, event) for event in events]

    def _stream_event(self, number: int, event: Event) -> StreamEvent:
        if event.name != GAP:  # a client that resumes between the two gets both again
            self._since[number] = event.version
        return StreamEvent(cursor=".".join(map(str, self._since)), event=event)

    async def _after(self, job_id: str, since: int) -> tuple[Sequence[Event], bool]:
        gap = False
        if since:
            read = await self._store.events(job_id, since)
            if read is None:
                return (), False
            if not read.gap and since <= read.version:
                return read.events, read.terminal
            gap = read.gap
        latest = await self._store.events(job_id, 0, latest=True)
        if latest is None or not latest.events:
            return (), latest is not None and latest.terminal
        snapshot = Event(latest.version, SNAPSHOT, latest.events[-1].body)
        events = (Event(latest.version, GAP, b"{}"), snapshot) if gap else (snapshot,)
        return events, latest.terminal


def read_cursor(text: str | None, count: int) -> Sequence[int]:
    """Return the versions in a cursor of `count` jobs; 0 for each where it can't be read."""
    parts = (text or "").split(".")
    if len(parts) != count or not all(_VERSION.fullmatch(part) for part in parts):
        return [0] * count
    return [int(part) for part in parts]
