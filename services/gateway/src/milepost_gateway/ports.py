"""What the core needs of the world."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from milepost_contracts.access import Access, Issuer
from milepost_contracts.events import JobEvent, JobScheduled, JobSubmitted, Wish
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.glance import Glance, expires_at, glance
from milepost_contracts.states import Status
from milepost_contracts.values import Job
from milepost_contracts.webhooks import Address, Callback, WebhookTry
from milepost_rabbit.depth import Depth

#: What accepts a job: for now, or for later.
Submitted = JobSubmitted | JobScheduled


class Hosts(Protocol):
    async def addresses(self, callback: Callback) -> Sequence[Address]:
        """Return where a callback leads now.

        Raises:
            RefusedCallback: It may not lead there.
            HostNotFound: Its host has no address, or nobody can say.
        """


class Broker(Protocol):
    async def submit(self, command: Submitted) -> None:
        """Return once every queue that the job must be in has stored it, within 2.5 s.

        Raises:
            NotAccepted: It is certainly not stored.
            OutcomeUnknown: Nobody can say.
        """

    async def say(self, wish: Wish) -> None:
        """Return once it is stored what is wanted of a job, within 2.5 s.

        Raises:
            NotAccepted: It is certainly not stored.
            OutcomeUnknown: Nobody can say.
        """

    async def tell_again(self, event: JobEvent) -> None:
        """Return once the webhook of this event is stored, on its way, within 2.5 s.

        Raises:
            NotAccepted: It is certainly not stored.
            OutcomeUnknown: Nobody can say.
        """

    async def depths(self, queues: Sequence[str]) -> Mapping[str, Depth]:
        """Return how full these queues of job types are, of those that exist.

        Raises:
            BrokerUnavailable: The broker does not answer.
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
    #: Whether the document says that the job waits in vain; not a thing of versions.
    waits_in_vain: bool = False

    @cached_property
    def seen(self) -> Glance:
        """What can be read of the document without parsing it."""
        return glance(self.body)

    @cached_property
    def expires_at(self) -> bytes:
        """When a job that has ended is forgotten, as its document has it."""
        return expires_at(self.body)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A job as the view has it, with what its document does not show."""

    job: Job
    status: Status


@dataclass(frozen=True)
class Happened:
    """An event of a job."""

    version: int
    #: What happened, in the past tense: `started`.
    name: str
    #: The CloudEvent as it travels.
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Told:
    """What there is to tell of a job after some version."""

    version: int
    #: Whether the job has ended.
    terminal: bool
    #: Whether there may have been more that is no longer kept.
    gap: bool
    #: In their order: every step that is kept, and the latest progress.
    events: tuple[Happened, ...]


class Place(NamedTuple):
    """Where a job stands in a listing."""

    #: When it was created, in milliseconds since 1970.
    created: int
    job_id: str


class StatusStore(Protocol):
    """The status view, read only. Every call may raise `StoreUnavailable`."""

    async def get(self, job_id: str) -> Stored | None:
        """Return the job's document; nothing if nobody has spoken of it.

        Raises:
            JobExpired: It is to be forgotten.
        """

    async def told(self, job_id: str, since: int, *, latest: bool = False, since_time: int = 0) -> Told | None:
        """Return what happened to a job after this version, or what happened last; nothing if it is not known.

        Or what happened at a time or later, in milliseconds since 1970; some of it may be from just before.
        """

    async def snapshot(self, job_id: str) -> Snapshot | None: ...

    async def dead_letters(
        self, *, tenant: str, before: Place | None, limit: int
    ) -> Sequence[tuple[Place, Snapshot | None]]:
        """Return up to `limit` jobs of a tenant that the broker gave up, newest first, behind `before`.

        Nothing stands for one that was forgotten meanwhile.
        """

    async def poison(self, limit: int) -> Sequence[bytes]:
        """Return what there is to tell of the latest messages that nobody could read: rendered JSON."""

    async def page(
        self,
        *,
        tenant: str,
        type_name: str | None,
        status: Status | None,
        before: Place | None,
        limit: int,
        batch: str | None = None,
    ) -> Sequence[tuple[Place, Stored | None]]:
        """Return up to `limit` jobs of a tenant, newest first, of those that stand behind `before`.

        Either those of a type, or those of a batch. Nothing stands for one that was forgotten meanwhile.
        """

    async def tagged(
        self, tag: str, *, tenant: str, since: int, limit: int, newest: bool = False
    ) -> tuple[int, Sequence[tuple[str, int]]]:
        """Return up to so many jobs with a tag that have changed at this time or later, and when, oldest change first.

        Or those that changed last, whenever that was. Times are Redis's, in milliseconds since 1970; the answer begins
        with the present one.
        """

    async def counts(self, *, tenant: str, batch: str | None = None) -> Mapping[Status, int]:
        """Return how many jobs of a tenant, or of one of its batches, there are in each state."""

    async def answers(self) -> bool:
        """Whether the store answers now; never raises."""


@dataclass(frozen=True)
class Use:
    """What an Idempotency-Key was used for."""

    job_id: str
    #: Of the request.
    fingerprint: str
    #: Whether the job was accepted; else somebody is at it, or was.
    accepted: bool
    #: When the request began that is, or was, at it.
    at: datetime
    #: Tells a request from a repeat of it.
    nonce: str
    #: What the request left for its repeats.
    note: str = ""


class KeyStore(Protocol):
    """The Idempotency-Keys in use. Every call may raise `StoreUnavailable`."""

    async def claim(self, tenant: str, key: str, use: Use, *, lasts: timedelta) -> Use | None:
        """Keep this use unless there is one, and return the one there is."""

    async def settle(self, tenant: str, key: str, use: Use, *, lasts: timedelta) -> None:
        """Keep what became of it."""

    async def release(self, tenant: str, key: str, use: Use) -> None:
        """Let the key be used anew, if this is still its use."""


#: Is told the id of a job that has changed.
Tell = Callable[[str], None]


class Listener:
    """Waits for changes of some jobs."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._jobs: set[str] = set()

    def tell(self, job_id: str) -> None:
        """Say that this job has changed."""
        self._jobs.add(job_id)
        self._changed.set()

    async def wait(self, within: float) -> set[str]:
        """Return the jobs that have changed since the last time, once one has; none after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()
        jobs, self._jobs = self._jobs, set()
        return jobs


class Changes(Protocol):
    """Tells that jobs have changed: a hint, and never late by more than some seconds."""

    def listen(self, job_ids: Sequence[str]) -> AbstractAsyncContextManager[Listener]: ...

    def attend(self, job_id: str, tell: Tell) -> asyncio.Event:
        """Tell of a job's changes until `leave`: from when the event is set until it is cleared, for good.

        Whether word was lost by then, `all_heard` tells.
        """

    def leave(self, job_id: str, tell: Tell) -> None: ...

    async def all_heard(self) -> bool:
        """Wait until all word has come that was on its way at the time of the call; false if nobody can say."""

    def listen_to_tag(self, tenant: str, tag: str) -> AbstractAsyncContextManager[Listener]:
        """Hear of every change of a tenant's jobs with this tag; a change may go unheard."""


class WebhookLog(Protocol):
    async def tries(self, job_id: str) -> Sequence[WebhookTry]:
        """Return what became of a job's webhooks, oldest first.

        Raises:
            StoreUnavailable: It can't be read now.
        """


class FleetStore(Protocol):
    """What processors said of themselves, read only. Every call may raise `StoreUnavailable`."""

    async def job_types(self) -> Sequence[JobType]: ...

    async def processors(self) -> Sequence[Beat]: ...


class Rules(Protocol):
    def current(self) -> Access:
        """Return who may do what, and how much, as of now."""


class Tokens(Protocol):
    async def verify(self, token: str, issuers: Sequence[Issuer]) -> tuple[dict[str, Any], str]:
        """Return a token's claims, and the name of the one that says which tenant it is about.

        Raises:
            Unauthenticated: It is not a good token of any of these issuers.
            IssuerUnavailable: Nobody can say.
        """


@dataclass(frozen=True)
class Put:
    """What was stored."""

    #: Bytes.
    size: int
    #: SHA-256, in hex.
    digest: str


class Blobs(Protocol):
    """Where files are."""

    async def put(self, key: str, content: AsyncIterator[bytes]) -> Put:
        """Store the content and return what it was.

        Raises:
            BlobsUnavailable: It is not stored.
        """

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Return these bytes of a blob: from the first to behind the last.

        Raises:
            JobExpired: It is not kept any more.
            BlobsUnavailable: It can't be read now.
        """

    def keys(self, folder: str) -> AsyncIterator[str]:
        """Yield the keys of all blobs there.

        Raises:
            BlobsUnavailable: They can't be listed now.
        """

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove what is there of these; never raises."""
