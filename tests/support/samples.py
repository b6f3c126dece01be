"""One message of each kind, with every field in use; the golden bytes are made of them."""

from datetime import UTC, datetime, timedelta

from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import Message
from milepost_contracts.messages.job_events import (
    CancelRequest,
    CancelRequested,
    DeletionRequest,
    JobCanceled,
    JobDeleted,
    JobFailed,
    JobInterrupted,
    JobPostponed,
    JobProgressed,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.messages.worker_events import (
    Announcement,
    Heartbeat,
    JobType,
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
    RunningJob,
)
from milepost_contracts.secret_params import MASK
from milepost_contracts.values import Attempt, FileRef, Items, Job, JobError, Progress

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ID = "06gvrfugk5uqp4ai689fqgvn1s0s43st4sfvhj6i"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SUBMITTED = Job(
    id=ID,
    tenant="default",
    type="digest-files",
    queue="default",
    tags=("nightly",),
    params={"paths": [], "pause": 0.5},
    files=(FileRef(name="docs/a.txt", size=3, key=f"jobs/{ID}/0000"),),
    created_at=AT,
)
JUST_SUBMITTED = SUBMITTED.model_copy(update={"created_at": now()})
"""A job that has not expired."""
RUNNING = SUBMITTED.model_copy(
    update={
        "delivery": 2,
        "attempt": 2,
        "attempts": (
            Attempt(number=1, worker="host-2-cd34", started_at=AT, why="lost"),
            Attempt(number=2, worker="host-1-ab12", started_at=AT + timedelta(seconds=1)),
        ),
        "max_runtime": timedelta(hours=6),
        "execution": "0badcafe",
        "step": 7,
        "worker": "host-1-ab12",
        "started_at": AT + timedelta(seconds=1),
        "progress": Progress(
            done=3, total=10, percent=30.0, unit="bytes", message="1 of 2 · é", rate=1.5, eta_seconds=4.7
        ),
        "items": Items(count=1, last=({"name": "docs/a.txt"},)),
    }
)
LATER = AT + timedelta(seconds=5)
ENDED = RUNNING.model_copy(update={"step": 8, "finished_at": AT + timedelta(seconds=3)})
HEARTBEAT = Heartbeat(
    instance="host-1-ab12",
    started_at=AT,
    types=("count",),
    queues=("default",),
    threads=4,
    running=(RunningJob(id=ID, type="count", attempt=1, started_at=AT),),
    held=3,
    version="0.1.0",
)
COUNT = JobType(
    type="count",
    queue="default",
    title="Count up, step by step",
    params_schema={"type": "object", "properties": {"steps": {"type": "integer"}}},
    result_schema={"type": "object"},
)
_ENVELOPE = {"event_id": "4f3c1f1e9f0b4d7d8a5e2b6c7d8e9f00", "time": AT, "traceparent": TRACE}

SAMPLES: tuple[Message, ...] = (
    JobSubmitted(job=SUBMITTED, **_ENVELOPE),
    JobStarted(job=RUNNING.model_copy(update={"step": 1, "progress": None, "items": Items()}), **_ENVELOPE),
    JobProgressed(job=RUNNING, **_ENVELOPE),
    JobScheduled(job=SUBMITTED.model_copy(update={"run_at": LATER, "start_within": timedelta(hours=1)}), **_ENVELOPE),
    JobRetrying(
        job=RUNNING.model_copy(
            update={"error": JobError(kind="exception", message="no"), "run_at": LATER, "retried": 1, "worker": None}
        ),
        **_ENVELOPE,
    ),
    JobInterrupted(job=RUNNING.model_copy(update={"worker": None, "saved_state": {"at": 3}}), **_ENVELOPE),
    JobPostponed(job=SUBMITTED.model_copy(update={"delivery": 3, "run_at": LATER}), **_ENVELOPE),
    JobQuarantined(job=SUBMITTED.model_copy(update={"delivery": 100, "quarantined": 100}), **_ENVELOPE),
    JobSucceeded(job=ENDED.model_copy(update={"result": {"files": 1}}), **_ENVELOPE),
    JobFailed(
        job=ENDED.model_copy(
            update={"error": JobError(kind="exception", message="no", exception="ValueError", traceback="Traceback …")}
        ),
        **_ENVELOPE,
    ),
    JobCanceled(job=ENDED.model_copy(update={"canceled_how": "cooperative"}), **_ENVELOPE),
    CancelRequested(
        request=CancelRequest(job_id=ID, type="digest-files", queue="default", run=1, requested_at=AT), **_ENVELOPE
    ),
    JobDeleted(
        request=DeletionRequest(job_id=ID, tenant="default", type="digest-files", queue="default", run=1), **_ENVELOPE
    ),
    ProcessorAnnounced(announcement=Announcement(instance="host-1-ab12", types=(COUNT,)), **_ENVELOPE),
    ProcessorHeartbeat(heartbeat=HEARTBEAT, **_ENVELOPE),
    ProcessorStopped(heartbeat=HEARTBEAT, **_ENVELOPE),
)

_STATE = FileRef(name="state.json", size=40_000, key=f"jobs/{ID}/9f8e7d6c/state-000003", media_type="application/json")
_OUTPUT = FileRef(name="a.csv", size=3, key=f"jobs/{ID}/9f8e7d6c/0000", digest="0" * 64, media_type="text/csv")
VARIANTS: dict[str, Message] = {
    "job.interrupted.v1.state-file": JobInterrupted(
        job=RUNNING.model_copy(update={"worker": None, "saved_state_file": _STATE, "outputs": (_OUTPUT,)}), **_ENVELOPE
    ),
    "job.submitted.v1.sealed": JobSubmitted(
        job=SUBMITTED.model_copy(update={"params": {"token": MASK}, "sealed": "1.c2VhbGVk"}), **_ENVELOPE
    ),
}
"""Messages with fields that those of `SAMPLES` lack, by the names of their golden files."""
