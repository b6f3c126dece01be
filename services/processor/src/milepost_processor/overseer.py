"""Watches what runs: stops what has taken too long, was canceled, or is another's by now; forces what won't stop."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from milepost import Canceled, Superseded, TimedOut
from milepost_processor.errors import GateUnavailable
from milepost_processor.execution import Execution
from milepost_processor.ports import Gate, Verdict

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.1
"""Seconds."""
ASK_EVERY = 1.0
"""Seconds between two questions to the gate: what the control exchange did not bring is noticed so."""


class Overseer:
    """Looks at the running executions, on a thread of its own."""

    def __init__(
        self,
        running: Callable[[], tuple[Execution, ...]],
        *,
        gate: Gate,
        grace: timedelta,
        raise_in: Callable[[int], None],
    ) -> None:
        """Prepare to watch.

        Args:
            running: What runs now.
            gate: Knows who else has a job.
            grace: How long a handler that was asked to stop may take before it is forced.
            raise_in: Raises `Forced` in the thread of this identity.
        """
        self._running = running
        self._gate = gate
        self._grace = grace
        self._raise_in = raise_in
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="overseer", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Stop what has taken too long, and force what was asked to stop and has not."""
        for execution in self._running():
            if execution.overdue:
                execution.stop(TimedOut())
            if execution.ignores_stop(self._grace):
                log.warning("handler_forced", job_id=execution.job.id, type=execution.job.type)
                execution.force(self._raise_in)

    def ask(self) -> None:
        """Stop what the gate says is canceled or another's."""
        running = self._running()
        if not running:
            return
        try:
            verdicts = self._gate.verdicts([execution.job for execution in running])
        except GateUnavailable:
            return
        for execution, verdict in zip(running, verdicts, strict=True):
            if verdict is Verdict.STALE:
                log.info("run_superseded", job_id=execution.job.id, turn=execution.job.turn)
                execution.stop(Superseded())
            elif verdict is Verdict.CANCELED:
                execution.stop(Canceled())

    def _watch(self) -> None:
        asked = time.monotonic()
        while not self._ended.wait(LOOK_EVERY):
            self.look()
            if time.monotonic() - asked >= ASK_EVERY:
                asked = time.monotonic()
                self.ask()
