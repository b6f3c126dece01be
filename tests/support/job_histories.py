"""Hypothesis strategies for the messages of one job, consistent and contradictory ones."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    AnyJobMessage,
    CancelRequest,
    CancelRequested,
    DeletionRequest,
    JobCanceled,
    JobDeleted,
    JobEvent,
    JobFailed,
    JobRetrying,
    JobScheduled,
    JobSubmitted,
)
from milepost_contracts.status.merge import cancel_key
from milepost_contracts.values import Items, Job, JobError, Progress

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 10**8).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
RETENTION = timedelta(days=7)
LONG_RETENTION = timedelta(days=30 * 365)
"""For jobs that ended at a fixed time: with the usual retention, Redis would not keep them."""

PROGRESS = st.builds(
    Progress,
    done=st.integers(0, 100),
    total=st.just(100),
    percent=st.floats(0, 100).map(lambda p: round(p, 1)),
    unit=st.sampled_from(["files", "steps", None]),
    message=st.none() | st.text(max_size=20),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ITEMS = st.lists(JSON, max_size=3).map(lambda last: Items(count=len(last), last=tuple(last)))


@st.composite
def job_events(draw: st.DrawFn, job_id: str = "job", kinds: Sequence[type[JobEvent]] = JOB_EVENTS) -> JobEvent:
    """One event, of any kind, run, attempt and execution."""
    kind = draw(st.sampled_from(kinds))
    submitted = kind in (JobSubmitted, JobScheduled)
    job = Job(
        id=job_id,
        tenant="default",
        type="count",
        queue="default",
        params=draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2)),
        created_at=EPOCH,
        run=draw(st.integers(1, 2)),
        delivery=0 if submitted else draw(st.integers(1, 3)),
        attempt=0 if submitted else draw(st.integers(1, 3)),
        execution="0" * 7 + str(int(kind is JobScheduled))
        if submitted
        else draw(st.sampled_from(["aaaaaaaa", "bbbbbbbb"])),
        step=0 if submitted else draw(st.integers(1, 5)),
        progress=draw(st.none() | PROGRESS),
        items=draw(ITEMS),
        result=draw(JSON),
        error=JobError(kind="exception", message="no") if kind is JobFailed else None,
        finished_at=draw(MOMENTS) if kind.status.terminal else None,
        run_at=draw(MOMENTS) if kind in (JobScheduled, JobRetrying) else None,
        canceled_how=draw(st.sampled_from(["before-start", "cooperative", "forced"])) if kind is JobCanceled else None,
    )
    return kind(job=job, time=draw(MOMENTS))


def ended_events() -> st.SearchStrategy[JobEvent]:
    """Terminal events of a run."""
    return job_events(kinds=[kind for kind in JOB_EVENTS if kind.status.terminal])


@st.composite
def cancel_requests(draw: st.DrawFn, job_id: str = "job") -> CancelRequested:
    request = CancelRequest(
        job_id=job_id, type="count", queue="default", run=draw(st.integers(1, 2)), requested_at=draw(MOMENTS)
    )
    return CancelRequested(request=request)


@st.composite
def deletions(draw: st.DrawFn, job_id: str = "job") -> JobDeleted:
    request = DeletionRequest(
        job_id=job_id, tenant="default", type="count", queue="default", run=draw(st.integers(1, 2))
    )
    return JobDeleted(request=request)


def order_key(event: AnyJobMessage) -> str:
    """Return the key by which the merge law orders. Two events with the same key are one event, published twice."""
    if isinstance(event, JobDeleted):
        return f"deleted {event.request.run}"
    return event.sequence if isinstance(event, JobEvent) else "cancel " + cancel_key(event.request)


def histories(
    job_id: str = "job", *, min_size: int = 1, with_deletions: bool = False
) -> st.SearchStrategy[list[AnyJobMessage]]:
    """Messages of one job in any order; with deletions on request."""
    messages = job_events(job_id) | cancel_requests(job_id)
    if with_deletions:
        messages |= deletions(job_id)
    return st.lists(messages, min_size=min_size, max_size=12, unique_by=order_key)


@st.composite
def deliveries(draw: st.DrawFn, job_id: str = "job") -> tuple[list[AnyJobMessage], list[AnyJobMessage]]:
    """A history, and the same events as a broker may deliver them: reordered, and some of them twice."""
    history = draw(histories(job_id, with_deletions=True))
    duplicates = draw(st.lists(st.sampled_from(history), max_size=6))
    return history, draw(st.permutations(history + duplicates))
