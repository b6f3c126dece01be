"""Answering what became of a job: an id never lies (law 2)."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from milepost_contracts import document
from milepost_contracts.envelope import now
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import IssuedId, Keyring
from milepost_contracts.states import Status
from milepost_gateway.errors import InvalidCursor, JobExpired, JobUnknown, NotKnownYet
from milepost_gateway.polls import Polls
from milepost_gateway.ports import Place, Snapshot, StatusStore, Stored

AT_ONCE = 201
MOST_LOOKS = 10
"""So many times at most, for one page."""


@dataclass(frozen=True)
class Page:
    items: Sequence[Stored]
    #: Asks for what comes after; nothing at the end.
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which jobs a listing is to have."""

    type_name: str | None = None
    status: Status | None = None
    queue: str | None = None
    tag: str | None = None
    #: Of a batch; no type beside it.
    batch: str | None = None
    #: Only those that were created after this time.
    created_after: datetime | None = None

    @property
    def looks_inside(self) -> bool:
        """Whether no index tells which jobs are meant."""
        return self.queue is not None or self.tag is not None

    def takes(self, stored: Stored) -> bool:
        """Whether a job of this type and status is meant."""
        if not self.looks_inside:
            return True
        seen = stored.seen
        return self.queue in (None, seen.queue) and (self.tag is None or self.tag in seen.tags)

    def ends_before(self, place: Place) -> bool:
        """Whether neither this job nor any older one is meant."""
        return self.created_after is not None and place.created <= self.created_after.timestamp() * 1000


@dataclass(frozen=True, kw_only=True)
class Statuses:
    """Reads statuses for one deployment."""

    keyring: Keyring
    store: StatusStore
    polls: Polls
    retention: timedelta

    async def get(self, job_id: str, *, tenant: str) -> Stored:
        """Return the job's document.

        Raises:
            JobUnknown: The id was never issued to this tenant.
            JobExpired: It was issued, and nothing is kept of it any more.
            StoreUnavailable: It was issued, and what became of it can't be read now.
        """
        issued = self._issued(job_id, tenant)
        return self._told(issued, await self.store.get(job_id))

    async def poll(self, job_id: str, *, tenant: str) -> Stored:
        """Return what `get` does, to somebody who may ask again and again."""
        issued = self._issued(job_id, tenant)
        return self._told(issued, await self.polls.get(job_id))

    def _issued(self, job_id: str, tenant: str) -> IssuedId:
        try:
            return self.keyring.verify(job_id, tenant)
        except UnknownJobId as error:
            raise JobUnknown from error

    def _told(self, issued: IssuedId, stored: Stored | None) -> Stored:
        if stored is not None:
            return stored
        if now() - issued.created_at > self.retention:
            raise JobExpired
        return Stored(0, document.unprojected(issued.job_id, issued.created_at))

    def owns(self, tenant: str, job_id: str) -> bool:
        """Whether the id was issued to this tenant."""
        with suppress(UnknownJobId):
            self.keyring.verify(job_id, tenant)
            return True
        return False

    async def known(self, job_id: str, *, tenant: str) -> tuple[Stored, Snapshot]:
        """Return the job's document, and what it does not show.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `get` does.
            NotKnownYet: No tracker has seen the job yet.
        """
        stored = await self.get(job_id, tenant=tenant)
        snapshot = await self.store.snapshot(job_id)
        if snapshot is None:
            raise NotKnownYet("the job was accepted just now, and no tracker has seen it yet")
        return stored, snapshot

    def unprojected(self, job_id: str, *, tenant: str) -> Stored:
        """Return what the id of an accepted job says by itself."""
        return Stored(0, document.unprojected(job_id, self.keyring.verify(job_id, tenant).created_at))

    async def page(self, wanted: Wanted, *, tenant: str, cursor: str | None, limit: int) -> Page:
        """Return some of the tenant's jobs, newest first.

        A page may be short, and even empty, although there is a next one: so much is looked at for one, and no more.

        Raises:
            InvalidCursor: The cursor is not from a page before.
            StoreUnavailable: The listing can't be read now.
        """
        before = None if cursor is None else _read_cursor(cursor)
        found: list[Stored] = []
        at_once = AT_ONCE if wanted.looks_inside else limit + 1
        for _ in range(MOST_LOOKS):
            some = await self.store.page(
                tenant=tenant,
                type_name=wanted.type_name,
                status=wanted.status,
                batch=wanted.batch,
                before=before,
                limit=at_once,
            )
            for place, stored in some:
                if wanted.ends_before(place):
                    return Page(found, None)
                if len(found) == limit:
                    return Page(found, _cursor(before))
                before = place
                if stored is not None and wanted.takes(stored):
                    found.append(stored)
            if len(some) < at_once:
                return Page(found, None)
        return Page(found, _cursor(before))


def _read_cursor(cursor: str) -> Place:
    try:
        text = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
        created, job_id = text.split(".")
        place = Place(int(created), job_id)
    except ValueError as error:
        raise InvalidCursor from error
    if not (created.isdigit() and len(created) <= 15 and job_id.isalnum()):  # noqa: PLR2004
        raise InvalidCursor
    return place


def _cursor(place: Place | None) -> str | None:
    return None if place is None else base64.urlsafe_b64encode(f"{place.created}.{place.job_id}".encode()).decode()
