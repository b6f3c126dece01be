"""The status view of single jobs, read only."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Protocol, Self

from milepost_contracts.messages.job_events import CancelRequest, JobEvent
from milepost_contracts.states import Status
from milepost_contracts.status import render
from milepost_contracts.status.summary import Summary, summarize
from milepost_contracts.values import Job


@dataclass(frozen=True, kw_only=True)
class StoredDocument:
    """A status document, in the parts that it is stored in."""

    #: 0 while no tracker has seen the job.
    version: int
    #: The rendered document without `version`, `cancel_requested` and `waiting`.
    state: bytes
    summary: Summary
    #: The rendered `cancel_requested`, if a cancel of this run was requested.
    cancel_requested: bytes | None = None
    #: The rendered reason why the job waits, if it is known. It does not change the version.
    waiting: bytes | None = None

    @classmethod
    def of(
        cls, event: JobEvent, *, retention: timedelta, version: int = 0, cancel: CancelRequest | None = None
    ) -> Self:
        """Return the document of a job whose latest event is this one."""
        evidence = render.render_evidence(event)
        return cls(
            version=version,
            state=render.render_state(event, retention=retention),
            summary=summarize(event, retention=retention),
            cancel_requested=render.cancel_requested(render.render_cancel(cancel), evidence) if cancel else None,
        )

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self.summary.status.terminal

    @cached_property
    def body(self) -> bytes:
        """The JSON that is served."""
        return render.assemble(self.version, self.state, cancel_requested=self.cancel_requested, waiting=self.waiting)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A job as the view has it, with the fields that its document does not show."""

    job: Job
    status: Status


@dataclass(frozen=True)
class Event:
    """An event of a job."""

    version: int
    #: What happened, in the past tense: `started`.
    name: str
    #: The CloudEvent as it travels.
    body: bytes


@dataclass(frozen=True, kw_only=True)
class EventsRead:
    """The events of a job after some version."""

    version: int
    #: Whether the job has ended.
    terminal: bool
    #: Whether there may have been more that are no longer kept.
    gap: bool
    #: In their order: every lifecycle event that is kept, and the latest progress.
    events: tuple[Event, ...]


class StatusStore(Protocol):
    """Reads single jobs. Every call but `answers` may raise `StoreUnavailable`."""

    async def get(self, job_id: str) -> StoredDocument | None:
        """Return the job's document; nothing if no tracker has seen the job.

        Raises:
            JobExpired: The job was deleted.
        """

    async def snapshot(self, job_id: str) -> Snapshot | None:
        """Return the job with all its fields; nothing if no tracker has seen it, or it was deleted."""

    async def events(self, job_id: str, since: int, *, latest: bool = False, since_time: int = 0) -> EventsRead | None:
        """Return the events of a job after a version, or its latest event; nothing if the job is not known.

        With `since_time`, milliseconds since 1970, return the events from that time on; a few may be from just before.
        """

    async def answers(self) -> bool:
        """Whether the store answers now; never raises."""
