"""The documents that many clients poll are served from memory.

Before each answer from memory, the cache waits until every notification that was already under way has arrived. So no
client sees a status go back, even if it asks several gateways.
"""

import asyncio
from dataclasses import dataclass

from milepost_gateway.ports.change_feed import ChangeFeed
from milepost_gateway.ports.status_store import EventsRead, Snapshot, StatusStore, StoredDocument

HOT_READS = 10
"""A job that is read this many times within a window is cached, in this window and the next."""
WINDOW = 1.0
"""Seconds. Each window reads documents again, and drops jobs that are no longer hot."""


@dataclass(slots=True, eq=False)
class _CachedJob:
    """A job that was read in this window, or was hot in the last one."""

    reads: int = 0
    #: Counts the notifications of changes, and the windows.
    changes: int = 0
    #: Set while no notification is missed; `None` if there is no subscription.
    subscribed: asyncio.Event | None = None
    #: What was read last, and has not changed since.
    read: StoredDocument | None = None

    @property
    def is_subscribed(self) -> bool:
        return self.subscribed is not None and self.subscribed.is_set()

    @property
    def fresh(self) -> StoredDocument | None:
        return self.read if self.is_subscribed else None


class HotCache:
    """Implements `ports.status_store.StatusStore` over another one, and serves hot documents from memory."""

    def __init__(self, store: StatusStore, change_feed: ChangeFeed) -> None:
        self._store = store
        self._change_feed = change_feed
        self._cached: dict[str, _CachedJob] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def get(self, job_id: str) -> StoredDocument | None:
        job = self._count_read(job_id)
        if job.fresh is not None and await self._change_feed.all_received() and job.fresh is not None:
            return job.fresh
        subscribed, changes = job.subscribed if job.is_subscribed else None, job.changes
        document = await self._store.get(job_id)
        if subscribed is not None and job.is_subscribed and (subscribed, changes) == (job.subscribed, job.changes):
            job.read = document
        return document

    async def snapshot(self, job_id: str) -> Snapshot | None:
        return await self._store.snapshot(job_id)

    async def events(self, job_id: str, since: int, *, latest: bool = False, since_time: int = 0) -> EventsRead | None:
        return await self._store.events(job_id, since, latest=latest, since_time=since_time)

    async def answers(self) -> bool:
        return await self._store.answers()

    def _count_read(self, job_id: str) -> _CachedJob:
        job = self._cached.get(job_id)
        if job is None:
            job = self._cached[job_id] = _CachedJob()
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(WINDOW, self.begin_window)
        job.reads += 1
        if job.reads == HOT_READS and not job.is_subscribed:
            job.subscribed, job.read = self._change_feed.subscribe(job_id, self._changed), None
        return job

    def begin_window(self) -> None:
        """Begin another window; a timer does so, while anything is cached."""
        hot = {job_id: job for job_id, job in self._cached.items() if job.reads >= HOT_READS}
        for job_id, job in self._cached.items():
            job.reads, job.read = 0, None
            job.changes += 1  # a read that is under way is not for the next window
            if job_id not in hot and job.subscribed is not None:
                job.subscribed = None
                self._change_feed.unsubscribe(job_id, self._changed)
        self._cached = hot
        self._timer = asyncio.get_running_loop().call_later(WINDOW, self.begin_window) if hot else None

    def _changed(self, job_id: str) -> None:
        job = self._cached[job_id]
        job.changes, job.read = job.changes + 1, None
