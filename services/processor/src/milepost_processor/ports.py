"""What an execution needs of the world."""

from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import milepost.run
from milepost import File, Run
from milepost_contracts.envelope import now
from milepost_contracts.events import JobEvent
from milepost_contracts.values import Attempt, FileRef, Job

#: Runs a coroutine on the loop of the async handlers.
AsyncRunner = Callable[[Coroutine[Any, Any, Any]], Future[Any]]


class Verdict(StrEnum):
    """What the gate says to somebody who wants to run a job."""

    #: Nobody has it: run it.
    RUN = "run"
    #: It has ended in this run already.
    FINISHED = "finished"
    #: Somebody asked to cancel it.
    CANCELED = "canceled"
    #: An earlier turn has it, and its processor lives: look again later.
    ALIVE = "alive"
    #: Another execution of the same turn has it: this message is a duplicate.
    TAKEN = "taken"
    #: A later turn or run has it.
    STALE = "stale"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The gate's answer."""

    verdict: Verdict
    #: Which attempt this would be.
    attempt: int
    #: When it was asked: the start of this attempt, should it be run.
    at: datetime = field(default_factory=now)
    #: The attempts before it, oldest first; one that never ended was lost with its processor.
    earlier: tuple[Attempt, ...] = ()
    #: Whether the message was delivered before to somebody who started it.
    crashed: bool = False


class Gate(Protocol):
    """Who may run a job (law 6)."""

    def claim(self, job: Job, *, turn: int, execution: str, worker: str) -> Claim:
        """Ask to run the job as its message tells of it, as this turn.

        A later turn takes over from an earlier one whose processor has not been heard of for a while.

        Raises:
            GateUnavailable: There is no answer.
        """

    def finish(self, job: Job, *, absorbing: bool) -> None:
        """Note that the run has ended, so that duplicates of its message are never run.

        Has no effect when a later turn has the job, unless the end is absorbing (success, cancel): that a stale
        attempt failed does not end the job.

        Raises:
            GateUnavailable: It could not be noted.
        """

    def verdicts(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Say of each running job whether it may go on (`RUN`), is `CANCELED`, or belongs to a later turn (`STALE`).

        Whoever asks lives: ask about every second.

        Raises:
            GateUnavailable: There is no answer.
        """


class Outbox(Protocol):
    """Brings events to the broker."""

    def deliver(self, event: JobEvent) -> None:
        """Return once the event is confirmed, however long the broker is away.

        Raises:
            Stopping: The process goes down before that.
        """

    def follow(self, run: Run, *, started: Callable[[], JobEvent], progressed: Callable[[], JobEvent]) -> None:
        """Publish that the run has started, if it lasts for a moment, and from then on its progress, coalesced.

        Both build an event of the run as it is then.
        """

    def unfollow(self, run: Run) -> None:
        """Stop publishing the run's progress."""


class Outputs(milepost.run.Outputs, Protocol):
    """What one execution writes."""

    @property
    def written(self) -> tuple[FileRef, ...]:
        """What was written whole, in its order."""

    @property
    def result(self) -> FileRef | None:
        """The result, if it was written."""


class Files(Protocol):
    def open(self, ref: FileRef) -> File:
        """Return the file that came with a job."""

    def outputs(self, job: Job) -> Outputs:
        """Return where this execution of a job writes to."""
