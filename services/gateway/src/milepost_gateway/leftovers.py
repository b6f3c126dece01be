"""Removes the files of jobs that nobody remembers any more, and of submissions that never became jobs."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta

import structlog

from milepost_contracts.envelope import now
from milepost_contracts.ids import claimed_time
from milepost_gateway.errors import BlobsUnavailable, StoreUnavailable
from milepost_gateway.ports import Blobs, StatusStore

log = structlog.get_logger(__name__)

SWEEP_EVERY = timedelta(hours=1)
LATE = timedelta(hours=1)
"""An upload may take so long before its job is handed over, and clocks differ."""
FOLDER = "jobs"
AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """The files of one deployment. Every gateway looks after them: what is gone already is gone."""

    blobs: Blobs
    store: StatusStore
    retention: timedelta

    async def keep(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY.total_seconds() * random.uniform(0.5, 1.0))
            try:
                if removed := await self.sweep():
                    log.info("files_removed", count=removed)
            except (BlobsUnavailable, StoreUnavailable) as error:
                log.warning("files_not_swept", error=str(error))

    async def sweep(self) -> int:
        """Remove what is left of jobs that are past their retention, and return how many files that were.

        Raises:
            BlobsUnavailable, StoreUnavailable: Not all could be looked at now.
        """
        removed, forgotten = 0, dict[str, bool]()
        old: list[str] = []
        async for key in self.blobs.keys(FOLDER):
            _, _, rest = key.partition("/")
            job_id = rest.partition("/")[0]
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
        if created_at is None or now() - created_at < self.retention + LATE:
            return False
        return await self.store.get(job_id) is None
