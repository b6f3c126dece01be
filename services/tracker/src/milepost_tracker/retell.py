"""Says again what the log is about to forget of jobs that have not ended.

The log keeps events for the retention time, and jobs may wait longer: one that is scheduled for next month would be
unknown after a loss of Redis, until it runs.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from milepost_contracts.envelope import now
from milepost_tracker.ports import Known, Outbox, RetellingStore

log = structlog.get_logger(__name__)

PART = 3
"""A part of the retention: the age at which jobs are told again, and how often. Twice that is the most that passes
before a job's first time, so that a third part is left for trackers that are down."""


class Reteller:
    """Writes to the log alone: nobody who follows the events hears of it."""

    def __init__(self, store: RetellingStore, outbox: Outbox, *, retention: timedelta) -> None:
        self._store = store
        self._outbox = outbox
        #: How old a job must be to be told again, and how often that is done.
        self.every = retention / PART

    async def retell(self) -> int:
        """Say again of every job what was said last, if its shard's turn has come; return of how many."""
        told = 0
        for shard in await self._store.untold_shards(self.every):
            async for some in self._store.open_jobs(shard):
                told += await self._say(some)
            await self._store.note_told(shard)
        if told:
            log.info("jobs_retold", count=told)
        return told

    async def _say(self, some: Sequence[Known]) -> int:
        old = [known for known in some if known.job.created_at <= now() - self.every]
        for known in old:
            if (event := known.latest()) is not None:
                await self._outbox.retell(event)
        return len(old)
