"""Waiting for what becomes of jobs: until a document changes, or step by step."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
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

Present = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Following:
    """Follows jobs for one deployment."""

    statuses: Statuses
    store: StatusStore
    changes: Changes

    async def document(
        self,
        job_id: str,
        *,
        tenant: str,
        enough: Callable[[Stored], bool],
        within: timedelta,
        present: Present,
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

    async def begin(self, job_id: str, *, tenant: str, since: int) -> bool:
        """Return whether there will be anything to tell of a job after this version: not if it has ended with that.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `Statuses.get` does.
        """
        stored = await self.statuses.get(job_id, tenant=tenant)
        return not stored.terminal or stored.version != since

    async def steps(self, job_id: str, *, since: int) -> AsyncGenerator[Sequence[Happened], None]:
        """Yield what happens to a job after this version, until it has ended; now and then nothing, where nothing does.

        First comes a snapshot, unless all that came after the version is still kept. A slow reader gets every step
        that is kept, and of progress the latest: nothing waits for it here.
        """
        async with self.changes.listen([job_id]) as listener:
            while True:
                events, ended = await self._after(job_id, since)
                if events:
                    since = events[-1].version
                    yield events
                if ended:
                    return
                if not await listener.wait(LOOK_EVERY.total_seconds()):
                    yield ()

    async def _after(self, job_id: str, since: int) -> tuple[Sequence[Happened], bool]:
        """Return what is to be told now, and whether that is all. Whoever listens waits while Redis is away."""
        try:
            told = await self.store.told(job_id, since)
            if told is None:
                return (), False
            if since and not told.gap and since <= told.version:
                return told.events, told.terminal
            return await self._snapshot(job_id, gap=told.gap)
        except StoreUnavailable:
            return (), False

    async def _snapshot(self, job_id: str, *, gap: bool) -> tuple[Sequence[Happened], bool]:
        latest = await self.store.told(job_id, 0, latest=True)
        if latest is None or not latest.events:
            return (), False
        snapshot = Happened(latest.version, SNAPSHOT, latest.events[-1].body)
        return (Happened(latest.version, GAP, b"{}"), snapshot) if gap else (snapshot,), latest.terminal
