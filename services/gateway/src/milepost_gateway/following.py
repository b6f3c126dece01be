"""Waiting for what becomes of jobs: until a document changes, or step by step."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports import Changes, Happened, StatusStore, Stored
from milepost_gateway.status import Statuses

LOOK_EVERY = timedelta(seconds=2)
"""How often a waiting job is looked at anyway, and whoever waits is asked whether they still do."""

SNAPSHOT = "snapshot"
"""What is told first: the latest event, whatever came before it."""
GAP = "gap"
"""Told before a snapshot when steps are missing."""

_VERSION = re.compile(r"[0-9]{1,15}")

Present = Callable[[], Awaitable[bool]]


async def always() -> bool:
    """Be present to the end."""
    return True


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that happened to one of the jobs that somebody reads of."""

    #: How far that takes the reader in all of them: resumes behind this step.
    cursor: str
    event: Happened


@dataclass(frozen=True, kw_only=True)
class Following:
    """Follows jobs for one deployment."""

    statuses: Statuses
    store: StatusStore
    changes: Changes
    #: How long a tracker is waited for that is to see what was accepted just now.
    seen_within: timedelta = timedelta(seconds=2)

    async def document(
        self,
        job_id: str,
        *,
        tenant: str,
        enough: Callable[[Stored], bool],
        within: timedelta,
        present: Present = always,
    ) -> Stored:
        """Return the job's document once it is enough, or as it is when the time is over or nobody waits any more.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `Statuses.get` does.
        """
        stored = await self.statuses.get(job_id, tenant=tenant)
        if enough(stored) or not within:
            return stored
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within.total_seconds()
        async with self.changes.listen([job_id]) as listener:
            stored = await self.statuses.get(job_id, tenant=tenant)
            while not enough(stored) and (left := deadline - loop.time()) > 0:
                await listener.wait(min(left, LOOK_EVERY.total_seconds()))
                if not await present():
                    break
                stored = await self.statuses.get(job_id, tenant=tenant)
        return stored

    async def begin(self, job_ids: Sequence[str], *, tenant: str, since: Sequence[int]) -> bool:
        """Return whether there will be anything to tell of some jobs after these versions: not if all ended with them.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `Statuses.get` does, for any of them.
        """
        return any([await self._goes_on(job_id, tenant, at) for job_id, at in zip(job_ids, since, strict=True)])

    async def _goes_on(self, job_id: str, tenant: str, since: int) -> bool:
        stored = await self.statuses.get(job_id, tenant=tenant)
        if not (since and stored.terminal) or since > stored.version:
            return True
        told = await self.store.told(job_id, since)
        return told is None or told.gap or bool(told.events)

    async def steps(self, job_ids: Sequence[str], *, since: Sequence[int]) -> AsyncGenerator[Sequence[Step], None]:
        """Yield what happens to some jobs after these versions, until all have ended; now and then nothing.

        Of each comes a snapshot first, unless all that came after the version is still kept. A slow reader gets every
        step that is kept, and of progress the latest: nothing waits for it here.
        """
        reader = _Reader(self.store, job_ids, since)
        async with self.changes.listen(job_ids) as listener:
            while True:
                for number in reader.to_look_at():
                    if steps := await reader.look(number):
                        yield steps
                if reader.done:
                    return
                reader.changed(await listener.wait(LOOK_EVERY.total_seconds()))
                yield ()


class _Reader:
    """How far somebody has read of some jobs."""

    def __init__(self, store: StatusStore, job_ids: Sequence[str], since: Sequence[int]) -> None:
        self._store = store
        self._job_ids = job_ids
        self._since = list(since)
        self._open = set(range(len(job_ids)))
        self._next = set(self._open)

    @property
    def done(self) -> bool:
        return not self._open

    def changed(self, job_ids: Collection[str]) -> None:
        """Take note that these jobs have changed."""
        self._next |= {number for number in self._open if self._job_ids[number] in job_ids}

    def to_look_at(self) -> Sequence[int]:
        numbers, self._next = sorted(self._next), set()
        return numbers

    async def look(self, number: int) -> Sequence[Step]:
        """Return what is new of a job. While Redis is away nothing is, and it is looked at again."""
        try:
            events, ended = await self._after(self._job_ids[number], self._since[number])
        except StoreUnavailable:
            self._next.add(number)
            return ()
        if ended:
            self._open.discard(number)
        return [self._step(number, event) for event in events]

    def _step(self, number: int, event: Happened) -> Step:
        if event.name != GAP:  # whoever comes back between the two is told both again
            self._since[number] = event.version
        return Step(cursor=".".join(map(str, self._since)), event=event)

    async def _after(self, job_id: str, since: int) -> tuple[Sequence[Happened], bool]:
        gap = False
        if since:
            told = await self._store.told(job_id, since)
            if told is None:
                return (), False
            if not told.gap and since <= told.version:
                return told.events, told.terminal
            gap = told.gap
        latest = await self._store.told(job_id, 0, latest=True)
        if latest is None or not latest.events:
            return (), latest is not None and latest.terminal
        snapshot = Happened(latest.version, SNAPSHOT, latest.events[-1].body)
        events = (Happened(latest.version, GAP, b"{}"), snapshot) if gap else (snapshot,)
        return events, latest.terminal


def read_cursor(text: str | None, count: int) -> Sequence[int]:
    """Return up to which version of each of so many jobs somebody has read; 0 where that can't be read."""
    parts = (text or "").split(".")
    if len(parts) != count or not all(_VERSION.fullmatch(part) for part in parts):
        return [0] * count
    return [int(part) for part in parts]
