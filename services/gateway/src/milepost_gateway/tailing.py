"""Following all jobs with a tag: those there are, and those that are handed over meanwhile. Such a stream has no end.

An index has the jobs of each tag by the time of their last change, which is Redis's own. Whoever comes back says up to
which time they were told all, and what has changed since is told; in between, what changes is heard.
"""

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from milepost_contracts.ids import claimed_time
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.following import GAP, SNAPSHOT, Step
from milepost_gateway.ports import Changes, Happened, StatusStore

LOOK_EVERY = timedelta(seconds=5)
"""How often all that has changed is looked at, heard of or not."""
MOST_JOBS = 1_000
"""So many of the latest changed jobs are looked at, at the beginning and after a pause."""


@dataclass(frozen=True, kw_only=True)
class Tailing:
    """Follows tags for one deployment."""

    store: StatusStore
    changes: Changes

    async def steps(self, tag: str, *, tenant: str, since: int) -> AsyncGenerator[Sequence[Step], None]:
        """Yield what happens to the tenant's jobs with this tag after a time, and now and then nothing.

        Args:
            tag: One of the words that jobs were handed over with.
            tenant: Whose jobs.
            since: Milliseconds since 1970, as the cursor of a step before; 0 for a snapshot of those that live.
        """
        tail = _Tail(self.store, tag, tenant, since)
        async with self.changes.listen_to_tag(tenant, tag) as listener:
            while True:
                changed = await listener.wait(tail.look_again_in)
                if steps := await tail.look(changed):
                    yield steps
                yield ()


class _Tail:
    """How far somebody has read of a tag."""

    def __init__(self, store: StatusStore, tag: str, tenant: str, since: int) -> None:
        self._store = store
        self._tag = tag
        self._tenant = tenant
        #: The time up to which all was told; 0 before the first look.
        self._horizon = since
        #: Up to which version each job was told of that has changed since.
        self._told: dict[str, int] = {}
        self._again: set[str] = set()
        self._begun = False
        self._due = time.monotonic()

    @property
    def look_again_in(self) -> float:
        """Seconds until all that has changed is to be looked at, unless something is heard before."""
        return max(0.0, self._due - time.monotonic())

    async def look(self, heard: set[str]) -> Sequence[Step]:
        """Return what is new, of these jobs or of all; what can't be read now is read the next time."""
        try:
            if self.look_again_in:
                return [self._step(event) for event in await self._news(heard | self._again)]
            self._due = time.monotonic() + LOOK_EVERY.total_seconds()
            return await self._look_at_all()
        except StoreUnavailable:
            self._again |= heard
            return ()

    async def _look_at_all(self) -> Sequence[Step]:
        now, changed = await self._store.tagged(self._tag, tenant=self._tenant, since=self._horizon, limit=MOST_JOBS)
        if self._horizon > now:  # from another Redis, or made up: nothing would be told until then
            self._horizon = 0
            return await self._look_at_all()
        events: list[Happened] = []
        if self._horizon:
            events += [Happened(0, GAP, b"{}")] if len(changed) == MOST_JOBS and not self._begun else []
            events += await self._news({*changed, *self._again})
        else:
            events += await self._live(changed)
        self._told = {job_id: version for job_id, version in self._told.items() if job_id in changed}
        steps = [self._step(event) for event in events]
        self._horizon, self._begun = now, True
        # Who comes back with the last of them has them all; with any before it, they are told again.
        return [*steps[:-1], self._step(events[-1])] if events else ()

    def _step(self, event: Happened) -> Step:
        return Step(cursor=str(self._horizon), event=event)

    async def _live(self, job_ids: Iterable[str]) -> list[Happened]:
        """Return a snapshot of each that has not ended."""
        found = []
        for job_id in job_ids:
            told = await self._store.told(job_id, 0, latest=True)
            if told is not None and told.events:
                self._told[job_id] = told.version
                if not told.terminal:
                    found.append(Happened(told.version, SNAPSHOT, told.events[-1].body))
        return found

    async def _news(self, job_ids: Iterable[str]) -> list[Happened]:
        """Return all that has happened to each since it was told of, or since the horizon."""
        found: list[Happened] = []
        for job_id in sorted(job_ids):
            since = self._told.get(job_id) or self._since_horizon(job_id)
            told = await self._store.told(job_id, since)
            if told is None:
                continue
            events = told.events
            if told.gap and since > 1:
                latest = await self._store.told(job_id, 0, latest=True)
                if latest is not None and latest.events:
                    snapshot = Happened(latest.version, SNAPSHOT, latest.events[-1].body)
                    events = (Happened(latest.version, GAP, b"{}"), snapshot)
            if events:
                self._told[job_id] = events[-1].version
            found += events
            self._again.discard(job_id)
        return found

    def _since_horizon(self, job_id: str) -> int:
        """Return the version that a job had at the horizon: milliseconds since its creation, which its id says."""
        created = claimed_time(job_id)
        return max(1, self._horizon - 1 - int(created.timestamp() * 1000)) if created else 1


def read_horizon(text: str | None) -> int:
    """Return up to which time somebody was told all; 0 where that can't be read."""
    return int(text) if text and text.isdecimal() and text.isascii() and len(text) <= 15 else 0  # noqa: PLR2004
