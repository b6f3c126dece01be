"""Following all jobs with a tag: those there are, and those that are handed over meanwhile. Such a stream has no end.

An index has the jobs of each tag by the time of their last change, which is Redis's own. Whoever comes back says up to
which time they were told all, and what has changed since is told; in between, what changes is heard.
"""

import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from milepost_contracts.envelope import peek
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.following import GAP, SNAPSHOT, Step
from milepost_gateway.following import LOOK_EVERY as WAKE_UP_EVERY
from milepost_gateway.ports import Changes, Happened, StatusStore

LOOK_EVERY = timedelta(seconds=5)
"""How often all that has changed is looked at, heard of or not."""
MOST_LIVE = 1_000
"""A stream begins with those that have not ended, of so many that changed last."""
PAGE = 200
AGAIN_IN = 1.0
"""Seconds after which what could not be read is read again."""
LATE_BY = timedelta(minutes=1)
"""By so much at most an index lags behind the view: a tracker may die in between, and another one does it again."""
OPENED = "opened"
"""What is told first, of no job: whoever is cut off before anything happens can come back with its id."""

_LATE_BY = int(LATE_BY.total_seconds() * 1000)
_CURSOR = re.compile(r"t([0-9]{1,15})")


@dataclass(frozen=True, kw_only=True)
class Tailing:
    """Follows tags for one deployment."""

    store: StatusStore
    changes: Changes
    retention: timedelta

    async def steps(self, tag: str, *, tenant: str, cursor: str | None) -> AsyncGenerator[Sequence[Step], None]:
        """Yield what happens to the tenant's jobs with this tag, job by job; now and then nothing.

        What happened behind the cursor of a step before; where there is none, first a snapshot of each that lives.
        """
        tail = _Tail(self.store, tag, tenant, read_cursor(cursor), self.retention)
        async with self.changes.listen_to_tag(tenant, tag) as listener:
            while True:
                heard = await listener.wait(min(tail.look_again_in, WAKE_UP_EVERY.total_seconds()))
                try:
                    async for steps in tail.look(heard):
                        yield steps
                except StoreUnavailable:
                    tail.look_soon()
                yield ()


class _Tail:
    """How far somebody has read of a tag."""

    def __init__(self, store: StatusStore, tag: str, tenant: str, horizon: int, retention: timedelta) -> None:
        self._store = store
        self._tag = tag
        self._tenant = tenant
        self._retention = int(retention.total_seconds() * 1000)
        #: The time up to which all was told; 0 before the first look.
        self._horizon = horizon
        #: Up to which version each job was told of that has changed since.
        self._told: dict[str, int] = {}
        #: When those have changed that did so within `LATE_BY` before the horizon.
        self._changed_at: dict[str, int] = {}
        #: Of which jobs a new reader still gets a snapshot.
        self._unseen: list[str] = []
        self._due = time.monotonic()

    @property
    def look_again_in(self) -> float:
        """Seconds until all that has changed is to be looked at, unless something is heard before."""
        return max(0.0, self._due - time.monotonic())

    def look_soon(self) -> None:
        """Look at all that has changed: something of it could not be read."""
        self._due = time.monotonic() + AGAIN_IN

    async def look(self, heard: set[str]) -> AsyncGenerator[Sequence[Step], None]:
        """Yield what is new of these jobs, or of all once it is time.

        Raises:
            StoreUnavailable: Something can't be read now; it is told the next time.
        """
        if self.look_again_in and self._horizon:
            for job_id in sorted(heard):
                if steps := await self._news(job_id):
                    yield steps
            return
        now, _ = await self._store.tagged(self._tag, tenant=self._tenant, since=0, limit=1, newest=True)
        if now - self._retention <= self._horizon <= now:
            async for steps in self._changed():
                yield steps
            self._horizon = now
        else:  # a new reader; or the cursor is older than what is kept, or from another Redis
            gap = [Happened(now, GAP, b"{}")] if self._horizon else []
            self._horizon = now
            newest = await self._store.tagged(self._tag, tenant=self._tenant, since=0, limit=MOST_LIVE, newest=True)
            self._changed_at = dict(newest[1])
            self._unseen = [job_id for job_id, changed in newest[1] if changed <= now]  # later ones are found as news
            yield [self._step(event) for event in (*gap, Happened(now, OPENED, b"{}"))]
        while self._unseen:
            if steps := await self._snapshot(self._unseen[-1]):
                yield steps
            self._unseen.pop()
        self._due = time.monotonic() + LOOK_EVERY.total_seconds()

    async def _changed(self) -> AsyncGenerator[Sequence[Step], None]:
        """Yield what has happened since the horizon, in the order of the jobs' last changes."""
        at, page, seen = self._horizon - _LATE_BY, PAGE, dict[str, int]()
        while True:
            _, found = await self._store.tagged(self._tag, tenant=self._tenant, since=at, limit=page)
            fresh = {job_id: changed for job_id, changed in found if seen.get(job_id) != changed}
            for job_id, changed in fresh.items():
                if changed != self._changed_at.get(job_id) and (steps := await self._news(job_id)):
                    yield steps
            seen |= fresh
            if len(found) < page:
                break
            at = found[-1][1]
            page = page if fresh else page * 2  # more than a page has changed in the same millisecond
        self._changed_at = seen
        self._told = {job_id: version for job_id, version in self._told.items() if job_id in seen}

    async def _snapshot(self, job_id: str) -> Sequence[Step]:
        """Return how a job is that has not ended. Of one that has, a change behind the horizon is still told."""
        told = await self._store.told(job_id, 0, latest=True)
        if told is None or told.terminal or not told.events:
            return ()
        event = told.events[-1]
        self._told[job_id] = event.version
        return [self._step(Happened(event.version, SNAPSHOT, event.body))]

    async def _news(self, job_id: str) -> Sequence[Step]:
        """Return all that has happened to a job since it was told of, or since the horizon."""
        known = self._told.get(job_id, 0)
        told = await self._store.told(job_id, known, since_time=0 if known else self._horizon - _LATE_BY)
        if told is None:
            return ()
        events: Sequence[Happened] = told.events
        if told.gap:
            events = await self._all_or_a_gap(job_id)
        if events:
            self._told[job_id] = events[-1].version
        return [self._step(event) for event in events]

    async def _all_or_a_gap(self, job_id: str) -> Sequence[Happened]:
        """Return every step of a job, if none is missing: it may have been projected late, behind the horizon."""
        told = await self._store.told(job_id, 0)
        if told is None or not told.events:
            return ()
        if _begins(told.events[0]):
            return told.events
        latest = told.events[-1]
        return Happened(latest.version, GAP, b"{}"), Happened(latest.version, SNAPSHOT, latest.body)

    def _step(self, event: Happened) -> Step:
        return Step(cursor=f"t{self._horizon}", event=event)


def read_cursor(text: str | None) -> int:
    """Return up to which time somebody was told all; 0 where that can't be read."""
    found = _CURSOR.fullmatch(text or "")
    return int(found[1]) if found else 0


def _begins(event: Happened) -> bool:
    """Whether nothing happened to the job before."""
    _, sequence = peek(event.body)
    return event.name in ("submitted", "scheduled") and int((sequence or "0").partition(".")[0]) == 1
