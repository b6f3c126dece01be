"""Publishes events of unfinished jobs again before the log drops them.

The log keeps events for the retention, and jobs may wait longer: one that is scheduled for next month would be unknown
after a loss of Redis, until it runs.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from milepost_contracts.clock import now
from milepost_tracker.ports.event_publisher import EventPublisher
from milepost_tracker.ports.republish_store import RepublishStore
from milepost_tracker.ports.status_store import KnownJob

log = structlog.get_logger(__name__)

REPUBLISH_SHARE = 3
"""A job that is older than a third of the retention is published again, once in each further third. The first time
comes after two thirds at most, so a third is left for an outage of the trackers."""


class Republisher:
    """Publishes to the log alone: consumers of the events do not receive it."""

    def __init__(self, store: RepublishStore, publisher: EventPublisher, *, retention: timedelta) -> None:
        self._store = store
        self._publisher = publisher
        #: How old a job must be to be published again, and how often that is done.
        self.every = retention / REPUBLISH_SHARE

    async def republish(self) -> int:
        """Publish the latest event of each job again, in the shards that are due; return how many jobs that were."""
        count = 0
        for shard in await self._store.due_shards(self.every):
            async for jobs in self._store.unfinished_jobs(shard):
                count += await self._republish(jobs)
            await self._store.record(shard)
        if count:
            log.info("jobs_republished", count=count)
        return count

    async def _republish(self, jobs: Sequence[KnownJob]) -> int:
        old = [known for known in jobs if known.job.created_at <= now() - self.every]
        for known in old:
            if (event := known.latest_event()) is not None:
                await self._publisher.republish(event)
        return len(old)
