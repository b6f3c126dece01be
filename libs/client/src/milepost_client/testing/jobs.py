"""In-memory jobs: a job runs at once on submission, and its events are revealed one by one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import pydantic_core

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    CancelRequest,
    JobCanceled,
    JobEvent,
    JobFailed,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.status import render
from milepost_contracts.values import Attempt, Job, JobError, Progress

RETENTION = timedelta(days=1)


class Report(Protocol):
    """The function by which a fake handler reports progress."""

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None: ...


Handler = Callable[..., Any]


@dataclass
class FakeJob:
    """A submitted job."""

    #: As it was submitted: `type`, `params`, `tags`, …
    submission: dict[str, Any]
    #: The content of the uploaded files, by name.
    files: dict[str, bytes]
    #: All events of the job's current run.
    events: list[JobEvent] = field(default_factory=list)
    #: How many of the events are revealed.
    shown: int = 1
    canceled: CancelRequest | None = None

    @classmethod
    def submitted(
        cls, job_id: str, submission: dict[str, Any], files: dict[str, bytes], batch: str | None
    ) -> "FakeJob":
        state = Job(
            id=job_id,
            tenant="default",
            type=submission["type"],
            queue="default",
            tags=tuple(submission.get("tags", ())),
            batch=batch,
            params=submission.get("params") or {},
            created_at=now(),
        )
        return cls(submission, files, [JobSubmitted(job=state)])

    @property
    def now(self) -> JobEvent:
        return self.events[self.shown - 1]

    @property
    def at_last_event(self) -> bool:
        """Whether all events are revealed."""
        return self.shown == len(self.events)

    def advance(self) -> None:
        """Reveal the next event."""
        self.shown = min(self.shown + 1, len(self.events))

    def body(self) -> bytes:
        return render.render_document(self.now, cancel=self.canceled, version=self.shown, retention=RETENTION)

    def run(self, handler: Handler | None) -> None:
        """Run the handler, and record all events of the job."""
        queued = self.events[0].job
        started = queued.model_copy(update={"delivery": 1, "attempt": 1, "worker": "fake", "started_at": now()})
        first = Attempt(number=1, worker="fake", started_at=now())
        self.events.append(JobStarted(job=started.model_copy(update={"attempts": (first,)})))
        if handler is None:
            return

        def report(done: float, total: float | None = None, message: str | None = None) -> None:
            percent = None if not total else round(100 * done / total, 1)
            self._append(JobProgressed, progress=Progress(done=done, total=total, percent=percent, message=message))

        try:
            takes_report = len(inspect.signature(handler).parameters) > 1
            returned = handler(queued.params, report) if takes_report else handler(queued.params)
            result = pydantic_core.to_jsonable_python(returned)
        except Exception as error:  # noqa: BLE001 - any exception fails the job, as with a real handler
            failure = JobError(kind="exception", message=str(error), exception=type(error).__name__)
            self._append(JobFailed, error=failure, finished_at=now())
        else:
            self._append(JobSucceeded, result=result, finished_at=now())

    def retry(self, handler: Handler | None) -> None:
        """Start the job's next run."""
        first, run = self.events[0].job, self.now.job.run + 1
        self.canceled, self.shown = None, 1
        self.events = [JobSubmitted(job=first.model_copy(update={"run": run}))]
        self.run(handler)

    def cancel(self) -> None:
        """Cancel the job after the events revealed so far."""
        job = self.now.job
        self.canceled = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, run=job.run, requested_at=now())
        self.events = self.events[: self.shown]
        self._append(JobCanceled, canceled_how="cooperative" if job.delivery else "before-start", finished_at=now())

    def _append(self, kind: type[JobEvent], **more: Any) -> None:
        latest = self.events[-1].job
        self.events.append(kind(job=latest.model_copy(update={"step": latest.step + 1, **more})))
