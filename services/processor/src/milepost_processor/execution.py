"""One execution: a handler at work, the events it leads to, and how it is made to stop."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from milepost import Run, RunStopped
from milepost_contracts.envelope import now
from milepost_contracts.events import Command, JobEvent, JobFailed
from milepost_contracts.values import LAST_STEP, Job, JobError
from milepost_processor.ports import Outputs

WHY = 300


class Execution:
    """One execution of a job. Its events carry everything that the handler has reported up to then."""

    def __init__(self, job: Job, command: Command, run: Run, outputs: Outputs) -> None:
        self.job = job
        self.run = run
        #: What its handler writes.
        self.outputs = outputs
        #: Whether an exception was raised inside the handler, because it did not stop when asked.
        self.forced = False
        self._traceparent = command.traceparent
        self._steps = itertools.count(1)
        self._deadline = time.monotonic() + job.max_runtime.total_seconds()
        self._stopped_at = float("inf")
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._future: Future[Any] | None = None

    # What it says.

    def event(self, kind: type[JobEvent], **changes: Any) -> JobEvent:
        """Build an event of the job as it is now."""
        report = self.run.report()
        told = {"step": next(self._steps), "progress": report.progress, "items": report.items}
        return kind(job=self.job.model_copy(update=told | changes), traceparent=self._traceparent)

    def over(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that this attempt leads to: its entry in the list of attempts is closed."""
        *earlier, this = self.job.attempts
        closed = this.model_copy(update={"ended_at": now(), "why": why[:WHY]})
        return self.event(kind, attempts=(*earlier, closed), **changes)

    def end(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that ends the job."""
        outputs = {"outputs": self.outputs.written, "result_file": self.outputs.result}
        return self.over(kind, why, finished_at=now(), **(outputs | changes))

    def put_back(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that another attempt begins with."""
        told = {"step": LAST_STEP, "worker": None, "saved_state": self.run.saved_state}
        return self.over(kind, why, **told, **changes)

    def bare_failure(self, message: str) -> JobEvent:
        """Build an end that takes nothing from the handler: what it reported may be what can't be told."""
        error = JobError(kind="unreportable", message=message)
        changes = {"step": next(self._steps), "finished_at": now(), "error": error}
        return JobFailed(job=self.job.model_copy(update=changes), traceparent=self._traceparent)

    # How it is stopped.

    @property
    def overdue(self) -> bool:
        """Whether the attempt has taken longer than it may."""
        return time.monotonic() > self._deadline

    def stop(self, reason: RunStopped) -> None:
        """Make the handler's next report or checkpoint raise `reason`; the first reason stays."""
        if self.run.stopped is None:
            self.run.stop(reason)
            self._stopped_at = time.monotonic()

    def ignores_stop(self, grace: timedelta) -> bool:
        """Whether the handler was asked to stop so long ago, and goes on."""
        return not self.forced and time.monotonic() - self._stopped_at > grace.total_seconds()

    def force(self, raise_in: Callable[[int], None]) -> None:
        """Raise inside the handler: `raise_in` does so in a thread; an async handler's task is cancelled."""
        with self._lock:
            if self._future is not None:
                self.forced = self._future.cancel()
            elif self._thread is not None:
                self.forced = True
                raise_in(self._thread)

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """While this lasts, `force` raises in the calling thread, and never after."""
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._thread = None
            if self.forced:
                time.sleep(0)  # what was raised in this thread arrives here, not in what follows

    def waits_for(self, future: Future[Any]) -> Any:
        """Return what an async handler returns; `force` cancels it."""
        with self._lock:
            self._future = future
        return future.result()
