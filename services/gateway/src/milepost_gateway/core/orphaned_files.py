"""Removes the files of expired and deleted jobs, and of submissions that never became jobs."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from milepost_contracts.clock import now
from milepost_contracts.ids import unverified_time
from milepost_gateway.errors import BlobStoreUnavailable, JobExpired, StoreUnavailable
from milepost_gateway.ports.blob_store import BlobStore
from milepost_gateway.ports.status_store import StatusStore

log = structlog.get_logger(__name__)

ORPHANS_INTERVAL = timedelta(hours=1)
UPLOAD_ALLOWANCE = timedelta(hours=1)
"""Allowance for an upload, which precedes its job's submission, and for clocks that differ."""
MIN_AGE = timedelta(days=1)
"""Files are kept for at least this long: trackers may be down, and not have seen the job yet."""
DELETED_FILES_INTERVAL = timedelta(seconds=30)
DELETION_GRACE = timedelta(minutes=1)
"""How long after its deletion a job's files are kept: another run may have been accepted before it."""
FOLDER = "jobs"
REMOVAL_BATCH_SIZE = 100


@dataclass(frozen=True, kw_only=True)
class OrphanedFiles:
    """The files of one deployment. Every gateway removes orphaned ones; removing one twice is harmless."""

    blob_store: BlobStore
    store: StatusStore
    retention: timedelta
    #: Jobs whose deletion was requested here, and since when.
    _deletions: dict[str, datetime] = field(default_factory=dict)

    async def run(self) -> None:
        """Remove orphaned files periodically, until cancelled."""
        swept_at = time.monotonic()
        while True:
            await asyncio.sleep(DELETED_FILES_INTERVAL.total_seconds() * random.uniform(0.5, 1.0))
            try:
                removed = await self.sweep_deleted()
                if time.monotonic() - swept_at > ORPHANS_INTERVAL.total_seconds():
                    swept_at = time.monotonic()
                    removed += await self.sweep()
                if removed:
                    log.info("files_removed", count=removed)
            except (BlobStoreUnavailable, StoreUnavailable) as error:
                log.warning("files_not_swept", error=str(error))
            except Exception:  # without this task no files are removed
                log.exception("files_not_swept")

    def remove_deleted(self, job_id: str) -> None:
        """Remove the files of a job later, if it is deleted then: another run may have been accepted meanwhile."""
        self._deletions[job_id] = now()

    async def sweep_deleted(self) -> int:
        """Remove the files of jobs that were deleted a while ago, and return their number."""
        removed, before = 0, now() - DELETION_GRACE
        for job_id in [job_id for job_id, since in self._deletions.items() if since <= before]:
            if await self._is_deleted(job_id):
                keys = [key async for key in self.blob_store.keys(f"{FOLDER}/{job_id}")]
                await self.blob_store.remove(keys)
                removed += len(keys)
            del self._deletions[job_id]
        return removed

    async def sweep(self) -> int:
        """Remove the files of jobs past their retention, and return their number.

        Raises:
            BlobStoreUnavailable, StoreUnavailable: Not all could be checked now.
        """
        removed, expired = 0, dict[str, bool]()
        orphaned: list[str] = []
        async for key in self.blob_store.keys(FOLDER):
            job_id = key.removeprefix(f"{FOLDER}/").partition("/")[0]
            if job_id not in expired:
                expired[job_id] = await self._is_expired(job_id)
            if expired[job_id]:
                orphaned.append(key)
            if len(orphaned) >= REMOVAL_BATCH_SIZE:
                await self.blob_store.remove(orphaned)
                removed, orphaned = removed + len(orphaned), []
        await self.blob_store.remove(orphaned)
        return removed + len(orphaned)

    async def _is_expired(self, job_id: str) -> bool:
        """Whether the view has nothing of this job any more; false for what is not a job's id."""
        created_at = unverified_time(job_id)
        if created_at is None or now() - created_at < max(self.retention, MIN_AGE) + UPLOAD_ALLOWANCE:
            return False
        try:
            return await self.store.get(job_id) is None
        except JobExpired:
            return True

    async def _is_deleted(self, job_id: str) -> bool:
        try:
            await self.store.get(job_id)
        except JobExpired:
            return True
        return False
