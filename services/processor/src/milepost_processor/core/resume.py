"""What the next attempt of a job begins with: the saved state, and the files that are complete.

The event that puts the job back carries it. As a processor may die before it publishes that event, it is kept with the
claim too. A state that is too large for an event is stored as a file.
"""

import threading
import time
from typing import Any

import pydantic_core
import structlog

from milepost import Run
from milepost_contracts.values import MAX_EVENT_STATE, FileRef, Job
from milepost_processor.ports.claims import Claims, ResumePoint
from milepost_processor.ports.files import Files, Outputs

log = structlog.get_logger(__name__)

KEEP_AGAIN = 30.0
"""Seconds after which one that has not changed is kept again: Redis may have lost it."""


def load_state(job: Job, message: Job, files: Files) -> Any:
    """Return the saved state of a claimed job; if its file is missing, that of the job in its message."""
    if job.saved_state_file is None:
        return job.saved_state
    try:
        with files.open(job.saved_state_file).open() as file:
            return pydantic_core.from_json(file.read())
    except FileNotFoundError:
        if message.saved_state_file == job.saved_state_file:
            raise
        log.warning("state_file_missing", job_id=job.id, type=job.type)
        return load_state(message, message, files)


class Resume:
    """What the next attempt would begin with if this one ended now. Several threads may use it."""

    def __init__(self, job: Job, run: Run, outputs: Outputs) -> None:
        self._job = job
        self._run = run
        self._outputs = outputs
        self._lock = threading.Lock()
        #: The number of the latest save whose state is stored.
        self._number = 0
        self._state: Any = job.saved_state
        self._state_file = job.saved_state_file
        #: What is kept with the claim, or is in the message.
        self._kept = ResumePoint.of(job)
        self._kept_at = time.monotonic()

    @property
    def files(self) -> dict[str, Any]:
        """The files of all attempts, without those that this one has written again, and the result file."""
        written = self._outputs.written
        names = {file.name for file in written}
        earlier = tuple(file for file in self._job.outputs if file.name not in names)
        return {"outputs": (*earlier, *written), "result_file": self._outputs.result or self._job.result_file}

    def point(self) -> ResumePoint:
        """Return it. A large state is stored first; if that fails, the state is the one that was stored last."""
        with self._lock:
            try:
                self._store_state()
            except Exception as error:
                log.warning("state_not_stored", job_id=self._job.id, type=self._job.type, exc_info=error)
            state = {"saved_state": self._state, "saved_state_file": self._state_file}
        # After the state: the files that it speaks of are complete.
        return ResumePoint.model_construct(**state, **self.files)

    def keep(self, claims: Claims) -> None:
        """Keep it with the claim, if it has changed or was kept long ago.

        Raises:
            ClaimsUnavailable: Redis does not answer.
        """
        point, before = self.point(), self._kept
        is_old = point != ResumePoint() and time.monotonic() - self._kept_at >= KEEP_AGAIN
        if (point != before or is_old) and claims.keep(self._job, point):
            self._kept, self._kept_at = point, time.monotonic()
            self._remove(before.saved_state_file, unless=(point.saved_state_file, self._job.saved_state_file))

    def published(self, job: Job) -> None:
        """Remove the files of states that are not needed any more, because this snapshot of the job was published."""
        for file in {self._job.saved_state_file, self._kept.saved_state_file, self._state_file}:
            self._remove(file, unless=(job.saved_state_file,))

    def _store_state(self) -> None:
        saved = self._run.saved
        if saved is None or saved.number == self._number:
            return
        before = self._state_file
        if len(saved.encoded) > MAX_EVENT_STATE:
            self._state, self._state_file = None, self._outputs.store_state(saved.encoded)
        else:
            self._state, self._state_file = pydantic_core.from_json(saved.encoded), None
        self._number = saved.number
        self._remove(before, unless=(self._kept.saved_state_file, self._job.saved_state_file))

    def _remove(self, file: FileRef | None, *, unless: tuple[FileRef | None, ...]) -> None:
        if file is not None and file not in unless:
            self._outputs.remove(file)
