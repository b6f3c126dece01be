"""Tag streams: the events of all jobs with a tag, those submitted meanwhile included. A tag stream has no end.

An index has the jobs of each tag by the time of their last change, by Redis's clock. A cursor is a time up to which the
client has been sent everything: a client that resumes gets what has changed since. Between two reads of the index, the
change feed names the jobs that have changed.
"""

import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from milepost_contracts.messages.cloudevent import peek
from milepost_gateway.core.job_stream import GAP, READ_INTERVAL, SNAPSHOT, StreamEvent
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports.change_feed import ChangeFeed
from milepost_gateway.ports.job_index import JobIndex
from milepost_gateway.ports.status_store import Event, StatusStore

INDEX_INTERVAL = timedelta(seconds=5)
"""How often the index is read for changes, notified or not."""
MAX_SNAPSHOTS = 1_000
"""A new stream begins with snapshots of this number of unfinished jobs, those that changed last."""
PAGE_SIZE = 200
RETRY_AFTER_OUTAGE = 1.0
"""Seconds after which a failed read is repeated."""
INDEX_DELAY = timedelta(minutes=1)
"""How far the index may lag behind the view: a tracker may die between the two writes, and another one repeats them."""
OPENED = "opened"
"""The first event of a stream, of no job: a client that is cut off before the next one can resume with its id."""

_CURSOR = re.compile(r"t([0-9]{1,15})")


@dataclass(frozen=True, kw_only=True)
class TagStream:
    """Follows tags, for one deployment."""

    store: StatusStore
    index: JobIndex
    change_feed: ChangeFeed
    retention: timedelta

    async def events(self, tag: str, *, tenant: str, cursor: str | None) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """Yield the events of the tenant's jobs with this tag, job by job; now and then an empty sequence.

        From a cursor on, what has changed since; without one, first a snapshot of each unfinished job.
        """
        reader = _Reader(self.store, self.index, tag, tenant, read_cursor(cursor), self.retention)
        async with self.change_feed.listen_to_tag(tenant, tag) as listener:
            while True:
                changed = await listener.wait(min(reader.index_due_in, READ_INTERVAL.total_seconds()))
                try:
                    async for events in reader.read(changed):
                        yield events
                except StoreUnavailable:
                    reader.read_index_soon()
                yield ()


class _Reader:
    """The position of one stream in a tag's index."""

    def __init__(
        self, store: StatusStore, index: JobIndex, tag: str, tenant: str, position: int, retention: timedelta
    ) -> None:
        self._store = store
        self._index = index
        self._tag = tag
        self._tenant = tenant
        self._retention = int(retention.total_seconds() * 1000)
        #: The time up to which everything was sent; 0 before the first read of the index.
        self._position = position
        #: The version up to which events were sent, of each job that has changed lately.
        self._sent: dict[str, int] = {}
        #: The time of the last change, of each job that changed within `INDEX_DELAY` before the position.
        self._changed_at: dict[str, int] = {}
        #: Jobs whose snapshot is still to be sent to a new client.
        self._to_snapshot: list[str] = []
        self._index_due = time.monotonic()

    @property
    def index_due_in(self) -> float:
        """Seconds until the index is read again."""
        return max(0.0, self._index_due - time.monotonic())

    @property
    def _index_position(self) -> int:
        """The time from which on the index may have changes that were not sent."""
        return self._position - int(INDEX_DELAY.total_seconds() * 1000)

    def read_index_soon(self) -> None:
        """Read the index again soon: something could not be read."""
        self._index_due = time.monotonic() + RETRY_AFTER_OUTAGE

    async def read(self, changed: set[str]) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """Yield the new events of these jobs, or of all that the index names, once it is due.

        Raises:
            StoreUnavailable: Something can't be read now; its events come with the next read.
        """
        if self.index_due_in and self._position:
            for job_id in sorted(changed):
                if events := await self._new_events(job_id):
                    yield events
            return
        now, _ = await self._index.tagged(self._tag, tenant=self._tenant, since=0, limit=1, newest=True)
        if now - self._retention <= self._position <= now:
            async for events in self._changes():
                yield events
            self._position = now
        else:  # a new client; or a cursor that is older than the index, or of another Redis server
            gap = [Event(now, GAP, b"{}")] if self._position else []
            self._position = now
            _, newest = await self._index.tagged(
                self._tag, tenant=self._tenant, since=0, limit=MAX_SNAPSHOTS, newest=True
            )
            unfinished = await self._index.unfinished(self._tag, tenant=self._tenant, limit=MAX_SNAPSHOTS)
            self._changed_at = dict(newest)
            # Trackers of an earlier release do not write the index of unfinished jobs. Later changes are found as such.
            lately = [job_id for job_id, at in newest if at <= now]
            self._to_snapshot = lately + [job_id for job_id in unfinished if job_id not in self._changed_at]
            yield [self._stream_event(event) for event in (*gap, Event(now, OPENED, b"{}"))]
        while self._to_snapshot:
            if events := await self._snapshot(self._to_snapshot[-1]):
                yield events
            self._to_snapshot.pop()
        self._index_due = time.monotonic() + INDEX_INTERVAL.total_seconds()

    async def _changes(self) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """Yield what has changed since the position, in the order of the jobs' last changes."""
        since, page, seen = self._index_position, PAGE_SIZE, dict[str, int]()
        while True:
            _, found = await self._index.tagged(self._tag, tenant=self._tenant, since=since, limit=page)
            fresh = {job_id: at for job_id, at in found if seen.get(job_id) != at}
            for job_id, at in fresh.items():
                if at != self._changed_at.get(job_id) and (events := await self._new_events(job_id)):
                    yield events
            seen |= fresh
            if len(found) < page:
                break
            since = found[-1][1]
            page = page if fresh else page * 2  # more than a page has changed in the same millisecond
        self._changed_at = seen
        self._sent = {job_id: version for job_id, version in self._sent.items() if job_id in seen}

    async def _snapshot(self, job_id: str) -> Sequence[StreamEvent]:
        """Return the snapshot of an unfinished job. An end after the position is sent as a change."""
        read = await self._store.events(job_id, 0, latest=True)
        if read is None or read.terminal or not read.events:
            return ()
        event = read.events[-1]
        self._sent[job_id] = event.version
        return [self._stream_event(Event(event.version, SNAPSHOT, event.body))]

    async def _new_events(self, job_id: str) -> Sequence[StreamEvent]:
        """Return the events of a job since the last one that was sent, or since the position."""
        sent = self._sent.get(job_id, 0)
        read = await self._store.events(job_id, sent, since_time=0 if sent else self._index_position)
        if read is None:
            return ()
        events = await self._all_or_a_gap(job_id) if read.gap else read.events
        if events:
            self._sent[job_id] = events[-1].version
        return [self._stream_event(event) for event in events]

    async def _all_or_a_gap(self, job_id: str) -> Sequence[Event]:
        """Return all events of a job if none is missing: it may have been projected late, behind the position."""
        read = await self._store.events(job_id, 0)
        if read is None or not read.events:
            return ()
        if _is_first(read.events[0]):
            return read.events
        latest = read.events[-1]
        return Event(latest.version, GAP, b"{}"), Event(latest.version, SNAPSHOT, latest.body)

    def _stream_event(self, event: Event) -> StreamEvent:
        return StreamEvent(cursor=f"t{self._position}", event=event)


def read_cursor(text: str | None) -> int:
    """Return the time in a cursor, in milliseconds since 1970; 0 where it can't be read."""
    found = _CURSOR.fullmatch(text or "")
    return int(found[1]) if found else 0


def _is_first(event: Event) -> bool:
    """Whether it is the first event of its job."""
    _, sequence = peek(event.body)
    return event.name in ("submitted", "scheduled") and int((sequence or "0").partition(".")[0]) == 1
