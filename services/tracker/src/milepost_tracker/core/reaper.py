"""Ends jobs that nobody else will end: canceled before they started, expired, or lost.

Such an event is derived from the view alone, its time and id too: several trackers publish the same one, and the log
holds what was applied. It has the delivery, execution and step of the latest event, so whatever the job itself
publishes later wins; a cancel absorbs.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobCanceled, JobEvent, JobFailed
from milepost_contracts.states import Status
from milepost_contracts.status import deadlines
from milepost_contracts.values import JobError, utc_text
from milepost_tracker import metrics
from milepost_tracker.ports.event_publisher import EventPublisher
from milepost_tracker.ports.status_store import KnownJob, StatusStore

log = structlog.get_logger(__name__)


class Reaper:
    """Publishes the ends of such jobs."""

    def __init__(self, store: StatusStore, publisher: EventPublisher) -> None:
        self._store = store
        self._publisher = publisher

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs that have a cancel request and that no processor has."""
        for known in await self._store.jobs(job_ids):
            if known.cancel_at is not None:
                canceled = _end(JobCanceled, known, known.cancel_at, canceled_how="before-start")
                await self._publisher.publish(canceled)
                log.info("job_canceled", job_id=known.job.id)

    async def end_overdue(self) -> int:
        """End overdue jobs, as expired or lost; return how many."""
        overdue = [known for known in await self._store.jobs(await self._store.overdue()) if _is_overdue(known)]
        for known in overdue:
            if known.status is not Status.RUNNING and deadlines.never_started(known.job):
                log.info("job_expired", job_id=known.job.id, status=known.status)
                await self._publisher.publish(deadlines.expired(known.job))
                continue
            metrics.lost.inc()
            log.warning("job_lost", job_id=known.job.id, status=known.status)
            await self._publisher.publish(_lost(known))
        return len(overdue)


def _is_overdue(known: KnownJob) -> bool:
    return known.due is not None and known.due <= now()


def _lost(known: KnownJob) -> JobEvent:
    assert known.due is not None  # noqa: S101 - only overdue jobs come here
    message = f"The {known.status} job is lost: its next event was due at {utc_text(known.due)} and did not arrive."
    return _end(JobFailed, known, known.due, error=JobError(kind="lost", message=message))


def _end(kind: type[JobEvent], known: KnownJob, at: datetime, **changes: Any) -> JobEvent:
    job = known.job.model_copy(update={"finished_at": at, "worker": None, **changes})
    return kind(job=job, time=at).with_derived_id()
