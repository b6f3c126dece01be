"""Removes the files of jobs that nobody remembers any more, and of submissions that never became jobs."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from milepost_contracts.envelope import now
from milepost_contracts.ids import claimed_time
from milepost_gateway.errors import BlobsUnavailable, JobExpired, StoreUnavailable
from milepost_gateway.ports import Blobs, StatusStore

log = structlog.get_logger(__name__)

SWEEP_EVERY = timedelta(hours=1)
LATE = timedelta(hours=1)
"""An upload may take so long before its job is handed over, and clocks differ."""
KEPT_ANYWAY = timedelta(days=1)
"""Trackers may be away for so long, and have not seen a job yet."""
LOOK_EVERY = timedelta(seconds=30)
SETTLED_AFTER = timedelta(minutes=1)
"""After so long all that was said of a job before it was forgotten has been seen."""
FOLDER = "jobs"
AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """The files of one deployment. Every gateway looks after them: what is gone already is gone."""

    blobs: Blobs
    store: StatusStore
    retention: timedelta
    #: Jobs that somebody wants forgotten, and since when.
    _wanted: dict[str, datetime] = field(default_factory=dict)

    async def keep(self) -> None:
        """Sweep now and then, until cancelled."""
        swept_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds() * random.uniform(0.5, 1.0))
            try:
                removed = await self.sweep_wanted()
                if time.monotonic() - swept_at > SWEEP_EVERY.total_seconds():
                    swept_at = time.monotonic()
                    removed += await self.sweep()
                if removed:
                    log.info("files_removed", count=removed)
            except (BlobsUnavailable, StoreUnavailable) as error:
                log.warning("files_not_swept", error=str(error))
            except Exception:  # whatever it was: nobody else sweeps
                log.exception("files_not_swept")

    def look_soon(self, job_id: str) -> None:
        """Remove the files of a job once it is seen to be forgotten; not at once, for another run may be on its way."""
        self._wanted[job_id] = now()

    async def sweep_wanted(self) -> int:
        """Remove the files of jobs that were forgotten a while ago, and return how many those were."""
        removed, before = 0, now() - SETTLED_AFTER
        for job_id in [job_id for job_id, since in self._wanted.items() if since <= before]:
            if await self._is_gone(job_id):
                keys = [key async for key in self.blobs.keys(f"{FOLDER}/{job_id}")]
                await self.blobs.remove(keys)
                removed += len(keys)
            del self._wanted[job_id]
        return removed

    async def sweep(self) -> int:
        """Remove what is left of jobs that are past their retention, and return how many files that were.

        Raises:
            BlobsUnavailable, StoreUnavailable: Not all could be looked at now.
        """
        removed, forgotten = 0, dict[str, bool]()
        old: list[str] = []
        async for key in self.blobs.keys(FOLDER):
            job_id = key.removeprefix(f"{FOLDER}/").partition("/")[0]
            if job_id not in forgotten:
                forgotten[job_id] = await self._is_forgotten(job_id)
            if forgotten[job_id]:
                old.append(key)
            if len(old) >= AT_ONCE:
                await self.blobs.remove(old)
                removed, old = removed + len(old), []
        await self.blobs.remove(old)
        return removed + len(old)

    async def _is_forgotten(self, job_id: str) -> bool:
        """Whether nothing is kept of this job; what is no job's is not ours."""
        created_at = claimed_time(job_id)
        if created_at is None or now() - created_at < max(self.retention, KEPT_ANYWAY) + LATE:
            return False
        try:
            return await self.store.get(job_id) is None
        except JobExpired:
            return True

    async def _is_gone(self, job_id: str) -> bool:
        try:
            await self.store.get(job_id)
        except JobExpired:
            return True
        return False
