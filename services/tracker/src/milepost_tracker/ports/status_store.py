"""The status view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from milepost_contracts.messages.job_events import JobEvent, JobRetrying, JobScheduled, JobStarted, JobSubmitted
from milepost_contracts.states import Status
from milepost_contracts.status.merge import View
from milepost_contracts.values import Attempt, Job
from milepost_tracker.ports.checkpoints import Checkpoints


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The result of merging some views."""

    #: How many views changed.
    changed: int
    #: Ids of jobs with a cancel request that no processor has: the tracker ends them.
    orphans: tuple[str, ...] = ()

    def __add__(self, other: "Applied") -> "Applied":
        return Applied(changed=self.changed + other.changed, orphans=self.orphans + other.orphans)


@dataclass(frozen=True, kw_only=True)
class KnownJob:
    """A job as the view has it."""

    job: Job
    status: Status
    #: When an event of the job must have arrived; nothing once it has ended.
    due: datetime | None
    #: When a cancel was requested; `None` if none was.
    cancel_at: datetime | None
    #: The time of its latest event.
    at: datetime

    def latest_event(self) -> JobEvent | None:
        """Return an event that gives the job its present state; nothing for a job that has ended."""
        kind = EVENT_OF.get(self.status)
        return None if kind is None else kind(job=self.job, time=self.at)


EVENT_OF: Mapping[Status, type[JobEvent]] = {
    Status.SCHEDULED: JobScheduled,
    Status.QUEUED: JobSubmitted,
    Status.RUNNING: JobStarted,
    Status.RETRYING: JobRetrying,
}
"""The event that puts a job into each of these states."""


class ClaimState(StrEnum):
    """How far processors have come with a message that was dead-lettered."""

    #: None has started it, or not since it was put into quarantine.
    WAITING = "waiting"
    #: One has started it, and does not renew its claim any more.
    STARTED = "started"
    #: One has the job and is alive, or has ended it, and its outcome may not be stored.
    HELD = "held"
    #: Its run has ended, a later run has begun, or its attempt was put back with a later message.
    OVER = "over"


class StatusStore(Protocol):
    """The status view. Every call may raise `StoreUnavailable`; repeating any of them is harmless."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    async def apply(self, views: Mapping[str, View], *, replayed: bool = False) -> Applied:
        """Merge these views, by job id, into the stored ones. A replay does not raise the checkpoints."""

    async def outdated(self, latest: Mapping[str, str]) -> set[str]:
        """Return the jobs whose view is older than the event with this sequence."""

    async def jobs(self, job_ids: Sequence[str]) -> list[KnownJob]:
        """Return these jobs as the view has them, without those that it does not have."""

    async def attempts(self, job: Job) -> tuple[Attempt, ...]:
        """Return the latest attempts of this run that were claimed, oldest first, as far as Redis has them."""

    async def claim_state(self, command: Job) -> ClaimState:
        """Return what processors have done with the job of this message, as far as Redis has it."""

    async def held(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of these jobs whose processor renews their claims."""

    async def sweep(self) -> int:
        """Remove jobs that have expired; return how many."""

    async def overdue(self) -> list[str]:
        """Return jobs whose next event is overdue."""
