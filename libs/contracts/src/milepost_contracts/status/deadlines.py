"""When a job expires, and when a job without further events counts as lost."""

from datetime import datetime, timedelta

from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.states import Status
from milepost_contracts.values import DEFAULT_START_WITHIN, LAST_MOMENT, Job

REPORT_GRACE = timedelta(seconds=30)
"""How long after a deadline an event of the job may still arrive before it counts as lost."""

START_REPORT_GRACE = timedelta(seconds=5)
"""How long after `start_by` the event of a start may still arrive."""


def start_by(job: Job) -> datetime:
    """Return when the job expires unless it was started. A `run_at` before its creation is ignored."""
    return min(max(job.run_at or job.created_at, job.created_at) + job.start_within, LAST_MOMENT)


def never_started(job: Job) -> bool:
    """Whether the job was never started, as far as this event knows."""
    return not (job.attempts or job.attempt or job.quarantined)


def waits(event: JobEvent) -> timedelta:
    """Return how long after this event the broker delivers the job: the rest of its delay."""
    return max(timedelta(0), (event.job.run_at or event.time) - event.time)


def report_within(event: JobEvent) -> timedelta | None:
    """Return how long after this event the next one must arrive; `None` if the job has ended.

    It is the difference of two times of one clock, so it does not depend on clock skew.
    """
    job = event.job
    if event.status.terminal:
        return None
    if event.status is Status.RUNNING:
        left = (job.started_at or event.time) - event.time + job.max_runtime
        return max(timedelta(0), left) + REPORT_GRACE
    # `start_within` limits the wait for the first start only.
    if never_started(job):
        return waits(event) + job.start_within + START_REPORT_GRACE
    return waits(event) + max(job.start_within, DEFAULT_START_WITHIN) + REPORT_GRACE
