"""The ends that a tracker and a processor may both publish: of jobs that were canceled or expired before their start.

Such an end follows from the job as it waits, so whoever publishes it publishes the same bytes.
"""

from datetime import datetime, timedelta

from milepost_contracts.messages.job_events import JobCanceled, JobEvent, JobFailed
from milepost_contracts.status.deadlines import start_by
from milepost_contracts.values import INFERRED_DELIVERY, LAST_STEP, MAX_DELIVERY, Job, JobError


def expired(job: Job) -> JobFailed:
    """Build the end of a job that was not started in time."""
    job = _as_published(job)
    seconds = job.start_within.total_seconds()
    error = JobError(kind="expired", message=f"No processor started the job within {seconds:g} s.")
    changes = {"finished_at": start_by(job), "error": error, "delivery": inferred(job.delivery)}
    return JobFailed(job=job.model_copy(update=changes), time=start_by(job)).with_derived_id()


def canceled_before_start(job: Job, *, requested_at: datetime) -> JobCanceled:
    """Build the end of a waiting job whose cancel was requested at this time.

    Several requests may be on their way. The sequence contains the time, so the ends of different requests differ, and
    that of the first request wins. An end that a handler came to wins over it.
    """
    job = _as_published(job)
    waited = max(0, (requested_at - job.created_at) // timedelta(milliseconds=1))
    changes = {
        "step": max(0, LAST_STEP - waited),
        "finished_at": requested_at,
        "worker": None,
        "canceled_how": "before-start",
    }
    return JobCanceled(job=job.model_copy(update=changes), time=requested_at).with_derived_id()


def _as_published(job: Job) -> Job:
    """Undo what deliveries without a start have changed in a job's message: the view does not have that."""
    run_at = None if job.run_at == job.created_at else job.run_at
    return job.model_copy(update={"delivery": job.quarantined, "redelivered": 0, "put_off": None, "run_at": run_at})


def is_waiting_end(event: JobEvent) -> bool:
    """Whether this is the end of a job whose message may still be waiting to be delivered."""
    job = event.job
    return job.canceled_how == "before-start" or job.delivery >= INFERRED_DELIVERY


def inferred(delivery: int) -> int:
    """Return the delivery number of an end that nobody has seen happen: success and cancel alone undo it."""
    return min(delivery + INFERRED_DELIVERY, MAX_DELIVERY)
