"""Stops handlers that are over their time limit, canceled, or superseded; forces those that do not stop."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from milepost import Canceled, Superseded, TimedOut
from milepost_processor.core.execution import Execution
from milepost_processor.errors import ClaimsUnavailable
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
        claims: Claims,
        grace: timedelta,
        raise_in: Callable[[int], None],
    ) -> None:
        """Prepare to watch.

        Args:
            running: Returns the running executions.
            claims: Renews their claims.
            grace: How long a handler may go on after it was asked to stop, before it is forced.
            raise_in: Raises `Forced` in the thread of this identity.
        """
        self._running = running
        self._claims = claims
        self._grace = grace
        self._raise_in = raise_in
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

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
                log.warning("handler_forced", job_id=execution.job.id, type=execution.job.type)
                execution.force(self._raise_in)

    def renew_claims(self) -> None:
        """Renew the claims, and stop executions that are canceled or superseded."""
        running = self._running()
        if not running:
            return
        try:
            verdicts = self._claims.renew([execution.job for execution in running])
        except ClaimsUnavailable:
            return
        for execution, verdict in zip(running, verdicts, strict=True):
            if verdict is Verdict.STALE:
                log.info("run_superseded", job_id=execution.job.id, delivery=execution.job.delivery)
                execution.stop(Superseded())
            elif verdict is Verdict.CANCELED:
                execution.stop(Canceled())

    def _watch(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(WATCH_INTERVAL):
            self.check_limits()
            if time.monotonic() - renewed >= RENEW_INTERVAL:
                renewed = time.monotonic()
                self.renew_claims()
