"""The life of a job in memory: all of it is found out at once, and shown step by step."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import pydantic_core

from milepost_contracts import document
from milepost_contracts.envelope import now
from milepost_contracts.events import (
    CancelRequest,
    JobCanceled,
    JobEvent,
    JobFailed,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.values import Attempt, Job, JobError, Progress

RETENTION = timedelta(days=1)


class Report(Protocol):
    """How a fake handler says how far it is."""

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None: ...


Handler = Callable[..., Any]


@dataclass
class FakeJob:
    """A job that was handed over."""

    #: As it was submitted: `type`, `params`, `tags`, …
    submission: dict[str, Any]
    #: The names of the files that came along, and what is in them.
    files: dict[str, bytes]
    #: Everything that becomes of it.
    events: list[JobEvent] = field(default_factory=list)
    #: How many of them have been seen.
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
    def stalled(self) -> bool:
        """Whether nothing more happens to it."""
        return self.shown == len(self.events)

    def move_on(self) -> None:
        """Let the next thing happen."""
        self.shown = min(self.shown + 1, len(self.events))

    def body(self) -> bytes:
        return document.render(self.now, cancel=self.canceled, version=self.shown, retention=RETENTION)

    def run(self, handler: Handler | None) -> None:
        """Find out all that becomes of it."""
        queued = self.events[0].job
        started = queued.model_copy(update={"turn": 1, "attempt": 1, "worker": "fake", "started_at": now()})
        first = Attempt(number=1, worker="fake", started_at=now())
        self.events.append(JobStarted(job=started.model_copy(update={"attempts": (first,)})))
        if handler is None:
            return

        def report(done: float, total: float | None = None, message: str | None = None) -> None:
            percent = None if not total else round(100 * done / total, 1)
            self._then(JobProgressed, progress=Progress(done=done, total=total, percent=percent, message=message))

        try:
            takes_report = len(inspect.signature(handler).parameters) > 1
            returned = handler(queued.params, report) if takes_report else handler(queued.params)
            result = pydantic_core.to_jsonable_python(returned)
        except Exception as error:  # noqa: BLE001 - a fake handler fails as a real one does
            failure = JobError(kind="exception", message=str(error), exception=type(error).__name__)
            self._then(JobFailed, error=failure, finished_at=now())
        else:
            self._then(JobSucceeded, result=result, finished_at=now())

    def run_again(self, handler: Handler | None) -> None:
        """Begin its next run."""
        first, run = self.events[0].job, self.now.job.run + 1
        self.canceled, self.shown = None, 1
        self.events = [JobSubmitted(job=first.model_copy(update={"run": run}))]
        self.run(handler)

    def cancel(self) -> None:
        """End it as canceled, as far as it has come."""
        job = self.now.job
        self.canceled = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, run=job.run, requested_at=now())
        self.events = self.events[: self.shown]
        self._then(JobCanceled, canceled_how="cooperative" if job.turn else "before-start", finished_at=now())

    def _then(self, kind: type[JobEvent], **more: Any) -> None:
        latest = self.events[-1].job
        self.events.append(kind(job=latest.model_copy(update={"step": latest.step + 1, **more})))
