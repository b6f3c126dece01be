"""Reads the status of jobs: an issued id is never unknown (law 2)."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from milepost_contracts.clock import now
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import IssuedId, Keyring
from milepost_contracts.states import Status
from milepost_contracts.status.render import render_unprojected
from milepost_contracts.status.summary import unprojected_summary
from milepost_gateway.errors import InvalidCursor, JobExpired, JobUnknown, NotKnownYet
from milepost_gateway.ports.job_index import JobIndex, Place
from milepost_gateway.ports.status_store import Snapshot, StatusStore, StoredDocument

SCAN_SIZE = 201
"""Jobs that are read at once if only their documents show which ones match."""
MAX_READS = 10
"""Maximum number of reads for one page."""


@dataclass(frozen=True)
class Page:
    items: Sequence[StoredDocument]
    #: The cursor of the next page; nothing for the last one.
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Selects the jobs of a listing."""

    type_name: str | None = None
    status: Status | None = None
    queue: str | None = None
    tag: str | None = None
    #: The id of a batch; not with a type.
    batch: str | None = None
    #: Only those that were created after this time.
    created_after: datetime | None = None

    @property
    def needs_documents(self) -> bool:
        """Whether only the documents show which jobs match."""
        return self.queue is not None or self.tag is not None

    def matches(self, stored: StoredDocument) -> bool:
        """Whether a job of the right type, status and batch matches."""
        if not self.needs_documents:
            return True
        summary = stored.summary
        return self.queue in (None, summary.queue) and (self.tag is None or self.tag in summary.tags)

    def ends_before(self, place: Place) -> bool:
        """Whether neither this job nor any older one matches."""
        return self.created_after is not None and place.created <= self.created_after.timestamp() * 1000


@dataclass(frozen=True, kw_only=True)
class Statuses:
    """Reads statuses for one deployment."""

    keyring: Keyring
    store: StatusStore
    index: JobIndex
    retention: timedelta

    async def get(self, job_id: str, *, tenant: str) -> StoredDocument:
        """Return the job's document.

        Raises:
            JobUnknown: The id was never issued to this tenant.
            JobExpired: It was issued, and the job has expired or was deleted.
            StoreUnavailable: It was issued, and the job's status can't be read now.
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
        return _unprojected(issued)

    def owns(self, tenant: str, job_id: str) -> bool:
        """Whether the id was issued to this tenant."""
        with suppress(UnknownJobId):
            self.keyring.verify(job_id, tenant)
            return True
        return False

    async def known(self, job_id: str, *, tenant: str) -> tuple[StoredDocument, Snapshot]:
        """Return the job's document, and the job with all its fields.

        Raises:
            JobUnknown, JobExpired, StoreUnavailable: As `get` does.
            NotKnownYet: No tracker has seen the job yet.
        """
        stored = await self.get(job_id, tenant=tenant)
        snapshot = await self.store.snapshot(job_id)
        if snapshot is None:
            raise NotKnownYet("the job was accepted, and no tracker has seen it yet")
        return stored, snapshot

    def unprojected(self, job_id: str, *, tenant: str) -> StoredDocument:
        """Return the document of an accepted job that no tracker has seen: what its id alone shows."""
        return _unprojected(self.keyring.verify(job_id, tenant))

    async def page(self, wanted: JobFilter, *, tenant: str, cursor: str | None, limit: int) -> Page:
        """Return some of the tenant's jobs, newest first.

        A page may be short, and even empty, although there is a next one: the number of reads for a page is limited.

        Raises:
            InvalidCursor: The cursor does not come from an earlier page.
            StoreUnavailable: The listing can't be read now.
        """
        before = None if cursor is None else _read_cursor(cursor)
        found: list[StoredDocument] = []
        count = SCAN_SIZE if wanted.needs_documents else limit + 1
        for _ in range(MAX_READS):
            some = await self.index.page(
                tenant=tenant,
                type_name=wanted.type_name,
                status=wanted.status,
                batch=wanted.batch,
                before=before,
                limit=count,
            )
            for place, stored in some:
                if wanted.ends_before(place):
                    return Page(found, None)
                if len(found) == limit:
                    return Page(found, _cursor(before))
                before = place
                if stored is not None and wanted.matches(stored):
                    found.append(stored)
            if len(some) < count:
                return Page(found, None)
        return Page(found, _cursor(before))


def _unprojected(issued: IssuedId) -> StoredDocument:
    return StoredDocument(
        version=0,
        state=render_unprojected(issued.job_id, issued.created_at),
        summary=unprojected_summary(issued.created_at),
    )


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
