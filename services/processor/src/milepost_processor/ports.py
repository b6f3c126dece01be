"""What an execution needs of the world."""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from milepost import File, Run
from milepost_contracts.events import JobEvent
from milepost_contracts.values import FileRef


class Verdict(StrEnum):
    """What the gate says to somebody who wants to run a job."""

    #: Nobody has it: run it.
    RUN = "run"
    #: It has ended in this run already.
    FINISHED = "finished"
    #: Another execution of the same attempt has it: this message is a duplicate.
    TAKEN = "taken"
    #: A later attempt or run has it.
    STALE = "stale"


class Gate(Protocol):
    """Who may run a job (law 6)."""

    def claim(self, *, job_id: str, run: int, attempt: int, execution: str, worker: str) -> Verdict:
        """Ask to run the job; a later attempt takes over from an earlier one.

        Raises:
            GateUnavailable: There is no answer.
        """

    def finish(self, *, job_id: str, run: int, attempt: int, absorbing: bool) -> None:
        """Note that the run has ended, so that duplicates of its message are never run.

        Has no effect when a later attempt has the job, unless the end is absorbing (success, cancel): that a stale
        attempt failed does not end the job.

        Raises:
            GateUnavailable: It could not be noted.
        """


class Outbox(Protocol):
    """Brings events to the broker."""

    def post(self, event: JobEvent) -> None:
        """Publish soon, trying until it is confirmed; returns at once."""

    def deliver(self, event: JobEvent) -> None:
        """Return once the event is confirmed, however long the broker is away.

        Raises:
            Stopping: The process goes down before that.
        """

    def follow(self, run: Run, progressed: Callable[[], JobEvent]) -> None:
        """Publish the run's progress from now on, coalesced; `progressed` builds an event of it as it is then."""

    def unfollow(self, run: Run) -> None:
        """Stop publishing the run's progress."""


class Files(Protocol):
    def open(self, ref: FileRef) -> File:
        """Return the file that came with a job."""
