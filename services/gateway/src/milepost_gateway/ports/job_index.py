"""Lists of jobs: by tenant, type, status, batch and tag."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from milepost_contracts.states import Status
from milepost_gateway.ports.status_store import StoredDocument


class Place(NamedTuple):
    """The place of a job in a list."""

    #: When it was created, in milliseconds since 1970.
    created: int
    job_id: str


class JobIndex(Protocol):
    """Finds jobs. Every call may raise `StoreUnavailable`."""

    async def page(
        self,
        *,
        tenant: str,
        type_name: str | None,
        status: Status | None,
        before: Place | None,
        limit: int,
        batch: str | None = None,
    ) -> Sequence[tuple[Place, StoredDocument | None]]:
        """Return up to `limit` jobs of a tenant, newest first, of those that stand behind `before`.

        Either those of a type, or those of a batch. A job that was deleted meanwhile has no document.
        """

    async def dead_letters(self, *, tenant: str, before: Place | None, limit: int) -> Sequence[Place]:
        """Return up to `limit` dead-lettered jobs of a tenant, newest first, of those that stand behind `before`."""

    async def tagged(
        self, tag: str, *, tenant: str, since: int, limit: int, newest: bool = False
    ) -> tuple[int, Sequence[tuple[str, int]]]:
        """Return Redis's time, and up to `limit` jobs with a tag, each with the time of its last change.

        Those that changed at `since` or later, the oldest change first; with `newest`, those that changed last,
        whenever that was. Times are Redis's, in milliseconds since 1970.
        """

    async def unfinished(self, tag: str, *, tenant: str, limit: int) -> Sequence[str]:
        """Return up to `limit` jobs with a tag that have not ended, the latest change first.

        A few may have ended: the index is written after the view.
        """

    async def counts(
        self, *, tenant: str, batch: str | None = None, statuses: Sequence[Status] = tuple(Status)
    ) -> Mapping[Status, int]:
        """Return how many jobs of a tenant, or of one of its batches, there are in each of these states."""
