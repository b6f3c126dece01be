"""Answering what became of a job: an id never lies (law 2)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from milepost_contracts import document
from milepost_contracts.envelope import now
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import Keyring
from milepost_contracts.states import Status
from milepost_gateway.errors import InvalidCursor, JobExpired, JobUnknown
from milepost_gateway.ports import StatusStore, Stored


@dataclass(frozen=True)
class Page:
    items: Sequence[Stored]
    #: Asks for what comes after; nothing at the end.
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Statuses:
    """Reads statuses for one deployment."""

    keyring: Keyring
    store: StatusStore
    retention: timedelta

    async def get(self, job_id: str, *, tenant: str) -> Stored:
        """Return the job's document.

        Raises:
            JobUnknown: The id was never issued to this tenant.
            JobExpired: It was issued, and nothing is kept of it any more.
            StoreUnavailable: It was issued, and what became of it can't be read now.
        """
        try:
            issued = self.keyring.verify(job_id, tenant)
        except UnknownJobId as error:
            raise JobUnknown from error
        stored = await self.store.get(job_id)
        if stored is not None:
            return stored
        if now() - issued.created_at > self.retention:
            raise JobExpired
        return Stored(0, document.unprojected(job_id, issued.created_at))

    async def page(
        self, *, tenant: str, type_name: str | None, status: Status | None, cursor: str | None, limit: int
    ) -> Page:
        """Return some of the tenant's jobs, newest first.

        Raises:
            InvalidCursor: The cursor is not from a page before.
            StoreUnavailable: The listing can't be read now.
        """
        del tenant  # there is one so far
        before = None if cursor is None else _read_cursor(cursor)
        found = await self.store.page(type_name=type_name, status=status, before=before, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return Page([stored for _, stored in shown], _cursor(shown[-1][0]) if more else None)


def _read_cursor(cursor: str) -> str:
    try:
        job_id = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:
        raise InvalidCursor from error
    if not job_id.isalnum():
        raise InvalidCursor
    return job_id


def _cursor(last_job_id: str) -> str:
    return base64.urlsafe_b64encode(last_job_id.encode()).decode()
