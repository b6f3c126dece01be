"""Who may run a job (law 6)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from pydantic import JsonValue

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.values import Attempt, FileRef, Job, Value


class Verdict(StrEnum):
    """The answer to a claim."""

    #: No other processor has the job: run it.
    RUN = "run"
    #: This run has ended already.
    FINISHED = "finished"
    #: The latest attempt has ended, and its outcome may not be stored yet: publish it again.
    UNCONFIRMED = "unconfirmed"
    #: A cancel was requested.
    CANCELED = "canceled"
    #: It was not started in time, by the clock of Redis: processors' clocks differ.
    EXPIRED = "expired"
    #: An earlier delivery has the job, and its processor is alive: try again later.
    ALIVE = "alive"
    #: Another execution of the same delivery has the job: this message is a duplicate.
    TAKEN = "taken"
    #: A later delivery or run has the job, or the attempt of this message was put back with a later message.
    STALE = "stale"


class ResumePoint(Value):
    """What the next attempt of a job begins with. The fields are those of the job that its events carry."""

    saved_state: JsonValue = None
    saved_state_file: FileRef | None = None
    outputs: tuple[FileRef, ...] = ()
    result_file: FileRef | None = None

    @staticmethod
    def of(job: Job) -> "ResumePoint":
        """Return that of a job as its message describes it."""
        return ResumePoint.model_construct(**{name: getattr(job, name) for name in ResumePoint.model_fields})

    @property
    def all_files(self) -> tuple[FileRef, ...]:
        """Every file that it refers to."""
        return (*self.outputs, *(file for file in (self.result_file, self.saved_state_file) if file is not None))

    @property
    def changes(self) -> dict[str, Any]:
        """The changes that make a job begin with it."""
        return {name: getattr(self, name) for name in type(self).model_fields}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A verdict, and what is known of the job's attempts."""

    verdict: Verdict
    #: The number of the attempt, should it run.
    attempt: int
    #: When the claim was made: the start of the attempt, should it run.
    at: datetime = field(default_factory=now)
    #: The attempts before it, oldest first; one that never ended was lost with its processor.
    earlier: tuple[Attempt, ...] = ()
    #: When the cancel was requested, if the verdict is `CANCELED`.
    cancel_requested_at: datetime | None = None
    #: The outcome to publish again, if the verdict is `UNCONFIRMED`; `None` if another message of the job publishes it.
    outcome: JobEvent | None = None
    #: What the execution that is taken over has kept for this attempt: newer than what the message carries.
    resume_point: ResumePoint | None = None


class Claims(Protocol):
    """Who may run a job (law 6)."""

    def claim(self, job: Job, *, delivery: int, execution: str, worker: str, may_run: bool = True) -> Claim:
        """Claim the job, as its message describes it, for this delivery number.

        A later delivery takes over from an earlier one whose processor has not renewed its claim for a while. If not
        `may_run`, the verdict is the same, and nothing is claimed.

        Raises:
            ClaimsUnavailable: Redis does not answer, or may have lost claims; or the claim had an outcome that is not
                believed, and was dropped.
        """

    def end(self, job: Job, outcome: JobEvent) -> JobEvent | None:
        """Record how the attempt of this job has ended, and return the event to publish.

        That is `outcome`, or the outcome of another execution which was recorded before it and may not be stored yet.
        `None` if the run has ended already, or a later attempt has the job: then nothing is to be published. Success
        and cancel are recorded even if a later attempt has the job.

        Raises:
            ClaimsUnavailable: It could not be recorded.
        """

    def confirm(self, outcomes: Sequence[JobEvent]) -> None:
        """Record that these outcomes are stored: no redelivery publishes them again.

        Raises:
            ClaimsUnavailable: Redis does not answer.
        """

    def keep(self, job: Job, point: ResumePoint) -> bool:
        """Keep what the next attempt begins with if this one can't publish it, because its processor dies.

        Return whether it was kept: it is not if the claim is lost, or belongs to another execution.

        Raises:
            ClaimsUnavailable: Redis does not answer.
        """

    def renew(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Renew the claims of jobs whose outcome is not confirmed yet; to be called about every second.

        A claim that Redis has lost is made again. Return for each whether it may go on (`RUN`), is `CANCELED`, or
        belongs to a later delivery (`STALE`).

        Raises:
            ClaimsUnavailable: Redis does not answer.
        """
