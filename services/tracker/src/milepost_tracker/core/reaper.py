"""Ends jobs that nobody else will end: canceled before they started, expired, or lost.

Such an event is derived from the view alone, its time and id too: several trackers publish the same one, and the log
holds what was applied. That a job expired or is lost is inferred: success and cancel alone undo it.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobEvent, JobFailed
from milepost_contracts.messages.trust import believable
from milepost_contracts.states import Status
from milepost_contracts.status import deadlines
from milepost_contracts.status.ends import canceled_before_start, expired, inferred
from milepost_contracts.values import JobError, utc_text
from milepost_tracker import metrics
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.event_publisher import EventPublisher
from milepost_tracker.ports.job_counts import JobCounts
from milepost_tracker.ports.status_store import KnownJob, StatusStore

log = structlog.get_logger(__name__)

LISTEN_FOR = timedelta(seconds=20)
"""How long events and heartbeats must have arrived without a break before a job may count as lost: processors that were
cut off too have reconnected by then, have sent heartbeats, and have published the outcomes that waited."""


class Reaper:
    """Publishes the ends of such jobs."""

    def __init__(
        self,
        store: StatusStore,
        job_counts: JobCounts,
        publisher: EventPublisher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._job_counts = job_counts
        self._publisher = publisher
        self._clock = clock
        self._listening_since: float | None = None

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs that wait, have a cancel request, and that no processor has."""
        for known in await self._store.jobs(job_ids):
            if known.cancel_at is not None and not known.status.terminal and known.status is not Status.RUNNING:
                await self._end(known, partial(_canceled, requested_at=known.cancel_at))

    async def end_overdue(self, *, receiving: bool) -> int:
        """End overdue jobs, as expired or lost; return how many.

        To be called every few seconds, with whether events and heartbeats are arriving now. Nothing is ended until they
        have arrived for `LISTEN_FOR`, nor while a job's processor renews its claim or lists it in its heartbeats.
        """
        if not self._has_listened(receiving):
            return 0
        try:
            overdue = [known for known in await self._store.jobs(await self._store.overdue()) if _is_overdue(known)]
            running = await self._store.held([known.job.id for known in overdue]) if overdue else set()
            if overdue:
                heartbeats = await self._job_counts.heartbeats()
                listed = {(job.id, queue) for one in heartbeats for job in one.running for queue in one.queues}
                running |= {known.job.id for known in overdue if (known.job.id, known.job.queue) in listed}
        except StoreUnavailable:
            self._listening_since = None
            raise
        ended = [known for known in overdue if known.job.id not in running]
        return sum([await self._end(known, _overdue) for known in ended])

    async def _end(self, known: KnownJob, build: Callable[[KnownJob], JobEvent]) -> bool:
        """Publish the end of a job; return whether it could be built. One that can't must not keep the others open."""
        try:
            end = build(known)
        except Exception:
            log.exception("job_not_ended", job_id=known.job.id)
            return False
        await self._publisher.publish(end)
        return True

    def _has_listened(self, receiving: bool) -> bool:
        if not receiving:
            self._listening_since = None
            return False
        if self._listening_since is None:
            self._listening_since = self._clock()
        return self._clock() - self._listening_since >= LISTEN_FOR.total_seconds()


def _is_overdue(known: KnownJob) -> bool:
    return known.due is not None and known.due <= now()


def _canceled(known: KnownJob, *, requested_at: datetime) -> JobEvent:
    log.info("job_canceled", job_id=known.job.id)
    return canceled_before_start(known.job, requested_at=requested_at)


def _overdue(known: KnownJob) -> JobEvent:
    if known.status is not Status.RUNNING and deadlines.never_started(known.job):
        log.info("job_expired", job_id=known.job.id, status=known.status)
        return expired(known.job)
    metrics.lost.inc()
    log.warning("job_lost", job_id=known.job.id, status=known.status)
    return _lost(known)


def _lost(known: KnownJob) -> JobEvent:
    """Build the end of a lost job from its latest event; its time is when the next one was due by the event's clock."""
    event = known.latest_event()
    within = None if event is None else deadlines.report_within(event)
    assert within is not None  # noqa: S101 - a job that has ended is not overdue
    due = believable(known.at + within)
    message = f"The {known.status} job is lost: its next event was due at {utc_text(due)} and did not arrive."
    changes = {
        "delivery": inferred(known.job.delivery),
        "finished_at": due,
        "worker": None,
        "error": JobError(kind="lost", message=message),
    }
    return JobFailed(job=known.job.model_copy(update=changes), time=due).with_derived_id()
