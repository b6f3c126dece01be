"""What the tracker says of a job itself, because nobody else will: that it is canceled, or lost.

Such an event follows from the view alone, its time and id too: several trackers that come to the same say the same,
and what the log holds is what was applied. It has the turn, execution and step of what is known, so whatever the job
itself says later wins, but for a cancel: that absorbs.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import structlog

from milepost_contracts import document
from milepost_contracts.envelope import now
from milepost_contracts.events import JobCanceled, JobEvent, JobFailed
from milepost_contracts.states import Status
from milepost_contracts.values import JobError, utc_text
from milepost_tracker import metrics
from milepost_tracker.ports import Known, Outbox, StatusStore

log = structlog.get_logger(__name__)


class Verdicts:
    """Ends jobs that have nobody to end them."""

    def __init__(self, store: StatusStore, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Say of jobs that no processor has, and that somebody wants canceled, that they are."""
        for known in await self._store.known(job_ids):
            if known.cancel_at is not None:
                canceled = _concluded(JobCanceled, known, known.cancel_at, canceled_how="before-start")
                await self._outbox.deliver(canceled)
                log.info("job_canceled", job_id=known.job.id)

    async def end_overdue(self) -> int:
        """Say of jobs that somebody should have spoken of by now that they are expired, or lost; return how many."""
        overdue = [known for known in await self._store.known(await self._store.overdue()) if _is_overdue(known)]
        for known in overdue:
            if known.status is not Status.RUNNING and document.never_begun(known.job):
                log.info("job_expired", job_id=known.job.id, status=known.status)
                await self._outbox.deliver(_identified(document.expired(known.job)))
                continue
            metrics.lost.inc()
            log.warning("job_lost", job_id=known.job.id, status=known.status)
            await self._outbox.deliver(_lost(known))
        return len(overdue)


def _is_overdue(known: Known) -> bool:
    return known.due is not None and known.due <= now()


def _lost(known: Known) -> JobEvent:
    assert known.due is not None  # noqa: S101 - only overdue jobs come here
    message = f"nothing was heard of the {known.status} job until {utc_text(known.due)}, when it was due to have spoken"
    return _concluded(JobFailed, known, known.due, error=JobError(kind="lost", message=message))


def _concluded(kind: type[JobEvent], known: Known, at: datetime, **changes: Any) -> JobEvent:
    job = known.job.model_copy(update={"finished_at": at, "worker": None, **changes})
    return _identified(kind(job=job, time=at))


def _identified(event: JobEvent) -> JobEvent:
    return event.model_copy(update={"event_id": uuid5(NAMESPACE_URL, f"{event.source}/{event.sequence}").hex})
