"""What the core needs of the world."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from milepost_contracts.events import JobSubmitted
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.states import Status


class Broker(Protocol):
    async def submit(self, command: JobSubmitted) -> None:
        """Return once every queue that the job must be in has stored it, within 2.5 s.

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


class StatusStore(Protocol):
    """The status view, read only. Every call may raise `StoreUnavailable`."""

    async def get(self, job_id: str) -> Stored | None: ...

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
