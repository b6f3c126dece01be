"""One execution of a job: its events, and how its handler is stopped."""

import contextvars
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import JsonValue

from milepost import Run, RunStopped
from milepost.errors import Forced
from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import Command, JobEvent, JobFailed
from milepost_contracts.values import LAST_STEP, Job, JobError
from milepost_processor.core.async_call import AsyncCall
from milepost_processor.core.resume import Resume
from milepost_processor.ports.async_runner import AsyncRunner
from milepost_processor.ports.files import Outputs

T = TypeVar("T")

MAX_WHY = 300
FORCE_AGAIN = 30.0
"""Seconds after which a handler that goes on is forced again: it caught the exception, or takes long to clean up."""


class Execution:
    """One execution of a job. Its events carry everything that the handler has reported so far."""

    def __init__(
        self, job: Job, command: Command, run: Run, outputs: Outputs, params: Mapping[str, JsonValue] | None = None
    ) -> None:
        self.job = job
        #: For the handler alone, with the secrets that the job's own params only mask.
        self.params = job.params if params is None else params
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
        self._forced_at = -float("inf")
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._async_call: AsyncCall | None = None

    # Its events.

    def event(self, kind: type[JobEvent], **changes: Any) -> JobEvent:
        """Build an event of the job as it is now."""
        report = self.run.report()
        reported = {"step": next(self._steps), "progress": report.progress, "items": report.items}
        return kind(job=self.job.model_copy(update=reported | changes), traceparent=self._traceparent)

    def _closing(self, kind: type[JobEvent], why: str, at: datetime, **changes: Any) -> JobEvent:
        """Build an event after this attempt: it ends the attempt's entry in the list of attempts."""
        *earlier, this = self.job.attempts
        closed = this.model_copy(update={"ended_at": at, "why": why[:MAX_WHY]})
        return self.event(kind, attempts=(*earlier, closed), **changes)

    def end(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that ends the job."""
        left = self.resume.files | {"saved_state": None, "saved_state_file": None}
        if changes.get("result") is not None:
            left["result_file"] = None  # an earlier attempt wrote it
        return self._closing(kind, why, at := now(), finished_at=at, **(left | changes))

    def put_back(self, kind: type[JobEvent], why: str, **changes: Any) -> JobEvent:
        """Build the event that puts the job back for another attempt."""
        left = self.resume.point().changes | {"step": LAST_STEP, "worker": None}
        return self._closing(kind, why, now(), **left, **changes)

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
    def thread(self) -> int | None:
        """The identity of the thread on which its handler runs now, if it does; an async one runs elsewhere."""
        return self._thread if self._async_call is None else None

    @property
    def is_async(self) -> bool:
        """Whether its handler runs on the event loop."""
        return self._async_call is not None

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
        """Whether it is time to force the handler, for the first time or again."""
        since_forced = time.monotonic() - self._forced_at
        return self.stopped_for > grace.total_seconds() and since_forced > FORCE_AGAIN

    def force(self, raise_in: Callable[[int], None]) -> bool:
        """Raise inside a handler's thread with `raise_in`, or cancel an async handler; return whether one runs."""
        with self._lock:
            if self._async_call is not None:
                self._async_call.cancel()
            elif self._thread is not None:
                raise_in(self._thread)
            else:
                return False
            self.forced = True
            self._forced_at = time.monotonic()
            return True

    def guard(self, call: Callable[[], T]) -> T:
        """Call the author's code on this thread. `force` raises `Forced` within it, and never after it.

        It has a copy of the thread's context variables: what it sets there does not reach the next job.

        Raises:
            Forced: The handler was forced.
        """
        self._thread = threading.get_ident()
        try:
            return contextvars.copy_context().run(call)
        finally:
            while self._thread is not None:
                try:  # noqa: SIM105 - `suppress` would be one more place in which it can be raised
                    self._leave_thread()
                except Forced:
                    pass

    def wait_for(self, run_async: AsyncRunner, awaitable: Awaitable[Any]) -> Any:
        """Within `guard`: return what an async handler returns once its coroutine is over; `force` cancels it."""
        was_forced = self._leave_thread()
        call = AsyncCall(awaitable)
        if was_forced:
            call.cancel()
        with self._lock:
            self._async_call = call
        try:
            return call.result(run_async)
        finally:
            with self._lock:
                self._async_call, self._thread = None, threading.get_ident()

    def _leave_thread(self) -> bool:
        """See to it that `Forced` is not raised in this thread any more; return whether it was on its way."""
        was_forced = False
        while self._thread is not None:
            try:
                with self._lock:
                    self._thread = None
                for _ in range(2):
                    pass  # a pending exception is raised here; a handler may have replaced `time.sleep`
            except Forced:
                was_forced = True
        return was_forced
