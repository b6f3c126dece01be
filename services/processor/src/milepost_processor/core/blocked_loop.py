"""Notices that an async handler blocks the event loop that all of them share, and sees to it that no other pays."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from milepost_processor import metrics
from milepost_processor.core.execution import Execution
from milepost_processor.core.outcome import BLOCKING_REMEDY
from milepost_processor.ports.async_loop import AsyncLoop

log = structlog.get_logger(__name__)

BLOCKED_AFTER = 0.5
"""Seconds without a beat after which the loop counts as blocked."""
FIRST_REPORT, NEXT_REPORT = 2.0, 5
"""Seconds until a blocked loop is reported, and the factor between two reports."""
FORCE_GRACE = timedelta(seconds=5)
"""How long a handler that was forced may go on to block the loop, before the process ends."""


class BlockedLoop:
    """Watches the loop. A handler that blocks it and does not stop is forced; the time limit of the others is moved."""

    def __init__(self, loop: AsyncLoop, *, grace: timedelta, raise_in: Callable[[int], None]) -> None:
        """Prepare to watch.

        Args:
            loop: The loop.
            grace: How long a handler may go on after it was asked to stop, before it is forced.
            raise_in: Raises `Forced` in the thread of this identity.
        """
        #: Why the loop can't be used any more, once it can't.
        self.broken: str | None = None
        self._loop = loop
        self._grace = grace.total_seconds()
        self._raise_in = raise_in
        self._beats = 0
        self._length = 0.0
        self._counted = 0.0
        self._next_report = FIRST_REPORT
        self._forced = False

    def check(self, executions: Sequence[Execution], elapsed: float) -> None:
        """Look at the loop, `elapsed` seconds after the last time."""
        beats = self._loop.beats
        if beats != self._beats:
            if self._length >= FIRST_REPORT:
                log.info("async_loop_runs_again", blocked=round(self._length, 1))
            self._beats, self._length, self._counted = beats, 0.0, 0.0
            self._next_report, self._forced = FIRST_REPORT, False
            return
        self._length += elapsed
        if self._length >= BLOCKED_AFTER:
            on_loop = [execution for execution in executions if execution.is_async]
            job_id = self._loop.current_job()
            guilty = next((execution for execution in on_loop if execution.job.id == job_id), None)
            self._charge(guilty, on_loop, innocent=job_id is not None)
            self._report(job_id, guilty)
            self._force(job_id, guilty, on_loop)

    def _charge(self, guilty: Execution | None, on_loop: Sequence[Execution], *, innocent: bool) -> None:
        """Charge the time to the handler that blocks; the others get it back."""
        seconds, self._counted = self._length - self._counted, self._length
        metrics.loop_blocked.labels(type=guilty.job.type if guilty else "").inc(seconds)
        for execution in on_loop:
            if execution is guilty:
                execution.blocked_loop += seconds
            else:
                execution.extend(seconds, innocent=innocent)

    def _report(self, job_id: str | None, guilty: Execution | None) -> None:
        if self._length < self._next_report:
            return
        self._next_report *= NEXT_REPORT
        log.warning(
            "async_loop_blocked",
            job_id=job_id,
            type=guilty and guilty.job.type,
            seconds=round(self._length, 1),
            where=self._loop.where(),
            detail=f"every async handler waits: {BLOCKING_REMEDY}",
        )

    def _force(self, job_id: str | None, guilty: Execution | None, on_loop: Sequence[Execution]) -> None:
        """Force a handler that blocks and was asked to stop. If that does not help either, the loop is lost."""
        if guilty is not None:
            ignored = guilty.stopped_for
        elif job_id is not None:
            ignored = self._length  # a task that its handler has left behind: nobody can ask it to stop
        else:
            ignored = max((execution.stopped_for for execution in on_loop), default=0.0)
        if job_id is not None and ignored > self._grace and not self._forced:
            self._forced = True
            log.warning("async_loop_forced", job_id=job_id)
            self._raise_in(self._loop.thread_id)
        if min(ignored, self._length) > self._grace + FORCE_GRACE.total_seconds():
            job = f"job {job_id}" if job_id else "a job"
            self.broken = f"{job} blocks the event loop of the async handlers, and does not stop: {self._loop.where()}"
