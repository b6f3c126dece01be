"""Keeps what running executions have saved with their claims: it survives a processor that is killed."""

import threading
from collections.abc import Callable

import structlog

from milepost_processor.core.execution import Execution
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import Claims

log = structlog.get_logger(__name__)

KEEP_INTERVAL = 1.0
"""Seconds between two times at which changes are kept: if the processor dies, those since the last one are lost."""


class ResumeKeeper:
    """Works on a thread of its own: to store a large state may take long."""

    def __init__(self, running: Callable[[], tuple[Execution, ...]], claims: Claims) -> None:
        self._running = running
        self._claims = claims
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="resume keeper", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def keep_all(self) -> None:
        """Keep what has changed."""
        for execution in self._running():
            try:
                execution.resume.keep(self._claims)
            except ClaimsUnavailable:
                return
            except Exception:
                log.exception("resume_point_not_kept", job_id=execution.job.id, type=execution.job.type)

    def _work(self) -> None:
        while not self._ended.wait(KEEP_INTERVAL):
            self.keep_all()
