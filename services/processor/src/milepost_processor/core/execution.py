"""One execution of a job: its events, and how its handler is stopped."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from milepost import Run, RunStopped
from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import Command, JobEvent, JobFailed
from milepost_contracts.values import LAST_STEP, Job, JobError
from milepost_processor.core.resume import Resume
from milepost_processor.ports.files import Outputs

MAX_WHY = 300


class Execution:
    """One execution of a job. Its events carry everything that the handler has reported so far."""

    def __init__(self, job: Job, command: Command, run: Run, outputs: Outputs) -> None:
        self.job = job
        self.run = run
        #: The files that its handler writes.
        self.outputs = outputs
        #: What the next attempt would begin with.
        self.resume = Resume(job, run, outputs)
        #: Whether an exception was raised inside the handler, because it did not stop when asked.
        self.forced = False
        #: How long its handler has blocked the event loop that async handlers share, in seconds.
        self.blocked_loop = 0.0
        self._traceparent = command.traceparent
        self._steps = itertools.count(1)
        self._deadline = time.monotonic() + job.max_runtime.total_seconds()
        self._credit = job.max_runtime.total_seconds()
        self._stopped_at = float("inf")
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._future: Future[Any] | None = None

    # Its events.

    def event(self, kind: type[JobEvent], **changes: Any) -> JobEvent:
        """Build an event of the job as it is now."""
        report = self.run.report()
        reported = {"step": next(self._steps), "progress": report.progress, "items": report.items}
        return kind(job=self.job.model_copy(update=reported | changes), traceparent=self._traceparent)

    def _closing(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build an event after this attempt: it ends the attempt's entry in the list of attempts."""
        *earlier, this = self.job.attempts
        closed = this.model_copy(update={"ended_at": now(), "why": why[:MAX_WHY]})
        return self.event(kind, attempts=(*earlier, closed), **changes)

    def end(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that ends the job."""
        left = self.resume.files | {"saved_state": None, "saved_state_file": None}
        if changes.get("result") is not None:
            left["result_file"] = None  # an earlier attempt wrote it
        return self._closing(kind, why, finished_at=now(), **(left | changes))

    def put_back(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that puts the job back for another attempt."""
        left = self.resume.point().changes | {"step": LAST_STEP, "worker": None}
        return self._closing(kind, why, **left, **changes)

    def bare_failure(self, message: str) -> JobEvent:
        """Build a failure with nothing that the handler reported: that may be what can't be encoded."""
        error = JobError(kind="unreportable", message=message)
        changes = {"step": next(self._steps), "finished_at": now(), "error": error}
        return JobFailed(job=self.job.model_copy(update=changes), traceparent=self._traceparent)

    # Stopping it.

    @property
    def overdue(self) -> bool:
        """Whether the attempt has taken longer than its `max_runtime`."""
        return self.remaining < 0

    @property
    def remaining(self) -> float:
        """How many seconds are left of its `max_runtime`."""
        return self._deadline - time.monotonic()

    def extend(self, seconds: float, *, innocent: bool) -> None:
        """Give back time in which the handler could not run.

        Args:
            seconds: How long.
            innocent: Whether another handler is known to have taken it. Otherwise it may have been this one, and gets
                back its `max_runtime` at most.
        """
        if not innocent:
            seconds = min(seconds, self._credit)
            self._credit -= seconds
        self._deadline += seconds

    @property
    def is_async(self) -> bool:
        """Whether its handler runs on the event loop."""
        return self._future is not None

    @property
    def stopped_for(self) -> float:
        """For how many seconds it has been asked to stop; 0 if it was not."""
        return max(0.0, time.monotonic() - self._stopped_at)

    def stop(self, reason: RunStopped) -> None:
        """Make the handler's next report or checkpoint raise `reason`; the first reason stays."""
        if self.run.stopped is None:
            self.run.stop(reason)
            self._stopped_at = time.monotonic()

    def ignores_stop(self, grace: timedelta) -> bool:
        """Whether the handler was asked to stop longer ago than `grace`, and was not forced yet."""
        return not self.forced and time.monotonic() - self._stopped_at > grace.total_seconds()

    def force(self, raise_in: Callable[[int], None]) -> None:
        """Raise inside a handler's thread with `raise_in`, or cancel the task of an async handler."""
        with self._lock:
            if self._future is not None:
                self.forced = self._future.cancel()
            elif self._thread is not None:
                self.forced = True
                raise_in(self._thread)

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Within this context, `force` raises in the calling thread; never after it."""
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._thread = None
            if self.forced:
                time.sleep(0)  # a pending exception is raised here, not in the code that follows

    def wait_for(self, future: Future[Any]) -> Any:
        """Wait for an async handler and return what it returns; `force` cancels it."""
        with self._lock:
            self._future = future
        return future.result()
