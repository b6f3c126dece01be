"""Stops handlers that are over their time limit, canceled, or superseded; forces those that do not stop.

Time in which a handler could not run, because another one held the interpreter or the event loop, is not charged to it.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from milepost import Canceled, Superseded, TimedOut
from milepost_processor import metrics
from milepost_processor.core.blocked_loop import BlockedLoop
from milepost_processor.core.execution import Execution
from milepost_processor.core.held_interpreter import HeldInterpreter
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.async_loop import AsyncLoop
from milepost_processor.ports.claims import Claims, Verdict

log = structlog.get_logger(__name__)

WATCH_INTERVAL = 0.1
"""Seconds between two checks of the time limits."""
RENEW_INTERVAL = 1.0
"""Seconds between two renewals of the claims; they also return cancels that did not arrive as a message."""


class Watchdog:
    """Checks the running executions, on a thread of its own."""

    def __init__(
        self,
        running: Callable[[], tuple[Execution, ...]],
        *,
        held: Callable[[], tuple[Execution, ...]],
        record_confirmed: Callable[[], None],
        claims: Claims,
        loop: AsyncLoop,
        grace: timedelta,
        raise_in: Callable[[int], None],
    ) -> None:
        """Prepare to watch.

        Args:
            running: Returns the executions whose handler is running.
            held: Returns those and the ones whose outcome is not confirmed yet.
            record_confirmed: Records which outcomes were confirmed.
            claims: Renews the claims of held executions.
            loop: Runs the async handlers.
            grace: How long a handler may go on after it was asked to stop, before it is forced.
            raise_in: Raises `Forced` in the thread of this identity.
        """
        self._running = running
        self._held = held
        self._record_confirmed = record_confirmed
        self._claims = claims
        self._grace = grace
        self._raise_in = raise_in
        self._interpreter = HeldInterpreter()
        self._loop = BlockedLoop(loop, grace=grace, raise_in=raise_in)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def broken(self) -> str | None:
        """Why handlers can't be stopped any more, once that is so."""
        return self._loop.broken

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def check_limits(self) -> None:
        """Stop executions that are over their time limit, and force those that were asked to stop and have not."""
        for execution in self._running():
            if execution.overdue:
                execution.stop(TimedOut())
            if execution.ignores_stop(self._grace):
                self._force(execution)

    def _force(self, execution: Execution) -> None:
        is_again = execution.forced
        if not execution.force(self._raise_in):
            return
        job, seconds = execution.job, round(execution.stopped_for)
        if is_again:
            metrics.ignored_stops.labels(type=job.type).inc()
            log.warning("handler_ignores_stop", job_id=job.id, type=job.type, seconds=seconds)
        else:
            log.warning("handler_forced", job_id=job.id, type=job.type, seconds=seconds)

    def credit_lost_time(self, *, elapsed: float, late: float) -> None:
        """Give back to executions the time in which they could not run.

        Args:
            elapsed: Seconds since the last call.
            late: How many of them the watchdog itself could not run.
        """
        self._interpreter.check(self._running(), late)
        self._loop.check(self._running(), elapsed - late)

    def renew_claims(self) -> None:
        """Renew the claims, and stop executions that are canceled or superseded."""
        held = self._held()
        if not held:
            return
        try:
            verdicts = self._claims.renew([execution.job for execution in held])
        except ClaimsUnavailable:
            return
        for execution, verdict in zip(held, verdicts, strict=True):
            if verdict is Verdict.STALE:
                log.info("run_superseded", job_id=execution.job.id, delivery=execution.job.delivery)
                execution.stop(Superseded())
            elif verdict is Verdict.CANCELED:
                execution.stop(Canceled())

    def _watch(self) -> None:
        checked = renewed = slept = time.monotonic()
        while not self._ended.wait(WATCH_INTERVAL):
            woken = time.monotonic()
            self.credit_lost_time(elapsed=woken - checked, late=woken - slept - WATCH_INTERVAL)
            self.check_limits()
            checked = woken
            if woken - renewed >= RENEW_INTERVAL:
                renewed = woken
                self.renew_claims()
                self._record_confirmed()
            slept = time.monotonic()
        self._record_confirmed()
