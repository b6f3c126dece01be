"""What the core needs of the world."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from milepost_contracts.events import CancelRequested, JobScheduled, JobSubmitted
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.states import Status
from milepost_contracts.values import Job

#: What accepts a job: for now, or for later.
Submitted = JobSubmitted | JobScheduled


class Broker(Protocol):
    async def submit(self, command: Submitted) -> None:
        """Return once every queue that the job must be in has stored it, within 2.5 s.

        Raises:
            NotAccepted: It is certainly not stored.
            OutcomeUnknown: Nobody can say.
        """

    async def ask_to_cancel(self, request: CancelRequested) -> None:
        """Return once the request is stored, within 2.5 s.

        Raises:
            NotAccepted: It is certainly not stored.
            OutcomeUnknown: Nobody can say.
        """

    async def answers(self) -> bool:
        """Whether the broker answers now."""


@dataclass(frozen=True)
class Stored:
    """A status document as it is stored."""

    version: int
    #: Rendered JSON; handed out as it is.
    body: bytes
    #: Whether the job has ended.
    terminal: bool = False
    #: Whether somebody asked to cancel it.
    cancel_requested: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A job as the view has it, with what its document does not show."""

    job: Job
    status: Status


class StatusStore(Protocol):
    """The status view, read only. Every call may raise `StoreUnavailable`."""

    async def get(self, job_id: str) -> Stored | None: ...

    async def snapshot(self, job_id: str) -> Snapshot | None: ...

    async def dead_letters(self, *, before: str | None, limit: int) -> Sequence[Snapshot]:
        """Return up to `limit` jobs that the broker gave up, newest first, of those whose id sorts before `before`."""

    async def poison(self, limit: int) -> Sequence[bytes]:
        """Return what there is to tell of the latest messages that nobody could read: rendered JSON."""

    async def page(
        self, *, type_name: str | None, status: Status | None, before: str | None, limit: int
    ) -> Sequence[tuple[str, Stored]]:
        """Return up to `limit` jobs, newest first, of those whose id sorts before `before`."""

    async def answers(self) -> bool:
        """Whether the store answers now; never raises."""


class FleetStore(Protocol):
    """What processors said of themselves, read only. Every call may raise `StoreUnavailable`."""

    async def job_types(self) -> Sequence[JobType]: ...

    async def processors(self) -> Sequence[Beat]: ...


class Blobs(Protocol):
    async def put(self, key: str, content: AsyncIterator[bytes]) -> int:
        """Store the content and return its size in bytes."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove what is there of these; never raises."""
