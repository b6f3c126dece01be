"""What the tracker's core needs of the world."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from milepost_contracts.events import JobEvent, JobRetrying, JobScheduled, JobStarted, JobSubmitted
from milepost_contracts.fleet import AnyFleetMessage
from milepost_contracts.states import Status
from milepost_contracts.values import Attempt, Job
from milepost_contracts.view import View
from milepost_contracts.webhooks import Callback, WebhookTry


class Delivery(Protocol):
    """One message, not yet acknowledged."""

    @property
    def body(self) -> bytes: ...

    @property
    def queue(self) -> str:
        """The queue it came from."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """What the broker and the publisher say beside the body."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What became of some views."""

    #: How many of them changed.
    changed: int
    #: Ids of jobs that somebody wants canceled and that no processor has: the tracker ends them.
    orphans: tuple[str, ...] = ()

    def __add__(self, other: "Applied") -> "Applied":
        return Applied(changed=self.changed + other.changed, orphans=self.orphans + other.orphans)


@dataclass(frozen=True, kw_only=True)
class Known:
    """A job as the view has it."""

    job: Job
    status: Status
    #: When somebody must have spoken of it; nothing once it has ended.
    due: datetime | None
    #: When somebody asked to cancel it, if somebody did.
    cancel_at: datetime | None
    #: When it was last spoken of.
    at: datetime

    def latest(self) -> JobEvent | None:
        """Return what was said last, as far as it matters to the view; nothing of a job that has ended."""
        kind = SAID_OF.get(self.status)
        return None if kind is None else kind(job=self.job, time=self.at)


SAID_OF: Mapping[Status, type[JobEvent]] = {
    Status.SCHEDULED: JobScheduled,
    Status.QUEUED: JobSubmitted,
    Status.RUNNING: JobStarted,
    Status.RETRYING: JobRetrying,
}
"""What is said of a job in each of these states, if it is said again."""


class Standing(StrEnum):
    """How far processors have come with a message that the broker gave up."""

    #: None has started it; not since it was put into quarantine, if it was.
    WAITS = "waits"
    #: One has started it, and does not speak any more.
    STARTED = "started"
    #: One has the job, and lives.
    HELD = "held"
    #: Its run has ended, or there is a later one.
    OVER = "over"


class StatusStore(Protocol):
    """The status view. Every call may raise `StoreUnavailable`; repeating any of them is harmless."""

    @property
    def watermarks(self) -> "Watermarks": ...

    async def apply(self, views: Mapping[str, View], *, replayed: bool = False) -> Applied:
        """Merge these views, by job id, into the stored ones. What is replayed leaves the watermarks alone."""

    async def outdated(self, latest: Mapping[str, str]) -> set[str]:
        """Return those jobs of which the view has not seen the event with this sequence, or a later one."""

    async def known(self, job_ids: Sequence[str]) -> list[Known]:
        """Return what is known of these jobs, of those of which something is."""

    async def claimed(self, job: Job) -> tuple[Attempt, ...]:
        """Return the latest attempts that processors have begun of this run, oldest first, if Redis remembers them."""

    async def standing(self, command: Job) -> Standing:
        """What processors have done with what this message tells of, as far as Redis remembers."""

    async def sweep(self) -> int:
        """Forget jobs whose time is over; return how many."""

    async def overdue(self) -> list[str]:
        """Return jobs of which somebody should have spoken by now."""


class Watermarks(Protocol):
    """Whether Redis has all that was written to it. Every call may raise `StoreUnavailable`."""

    async def lost_shards(self) -> dict[int, datetime | None]:
        """Return the shards that have forgotten writes, each with the time until which it has all, if it has any.

        Until `mark` says that they are whole again, gateways tell nothing of them.
        """

    @property
    def vouched(self) -> bool:
        """Whether somebody vouched for every shard on this server when `lost_shards` looked last."""

    async def vouch(self) -> bool:
        """Say that what a Redis server has which is new here is all there was, once all trackers had time to object.

        To be called when `lost_shards` finds none; return whether somebody vouches for every shard.
        """

    async def leave(self) -> None:
        """Say that this tracker goes: nobody waits any more for it to object."""

    async def begin_replay(self, shards: Iterable[int]) -> None:
        """Note in these shards that they are being replayed: should they forget that too, they are not whole."""

    async def mark(self, shards: Iterable[int]) -> bool:
        """Say that these shards are whole; return whether all of them remembered that they were being replayed."""

    async def hold_replay(self) -> bool:
        """Whether this tracker may replay the log now; ask again at least every 10 s to keep it."""

    async def end_replay(self) -> None:
        """Let another tracker replay the log."""


class RetellingStore(Protocol):
    """What is told again of which jobs. Every call may raise `StoreUnavailable`."""

    async def untold_shards(self, every: timedelta) -> list[int]:
        """Return the shards whose jobs were not told again for so long."""

    def open_jobs(self, shard: int) -> AsyncIterator[Sequence[Known]]:
        """Yield the jobs of a shard that have not ended, some at a time."""

    async def note_told(self, shard: int) -> None:
        """Note that the jobs of this shard were told again just now."""


class FleetStore(Protocol):
    async def record(self, message: AnyFleetMessage) -> None:
        """Keep what a processor says of itself.

        Raises:
            StoreUnavailable: Nothing is certain; recording the same again is harmless.
        """


class Outbox(Protocol):
    async def deliver(self, event: JobEvent) -> None:
        """Return once the event is confirmed, however long the broker is away."""

    async def retell(self, event: JobEvent) -> None:
        """Return once the log alone has the event, however long the broker is away."""

    async def tell(
        self, event: JobEvent, *, after: timedelta = timedelta(0), tries: int = 0, asked: bool = False, put_off: int = 0
    ) -> None:
        """Return once the webhook of this event is stored, however long the broker is away.

        Args:
            event: The end of a job.
            after: How long it waits in the ladder.
            tries: How often it was tried before.
            asked: Whether somebody wants it sent, whatever became of it before.
            put_off: How often it was put off since the last try.
        """

    async def keep_poison(self, body: bytes, *, queue: str, reason: str) -> None:
        """Return once the broker has stored an unreadable message for people to look at."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a receiver made of a webhook."""

    #: Nothing if there was no answer.
    status_code: int | None
    #: Why there was none.
    error: str | None
    milliseconds: int

    @property
    def taken(self) -> bool:
        """Whether the receiver has it: any 2xx."""
        return self.status_code is not None and 200 <= self.status_code < 300  # noqa: PLR2004


class Endpoint(Protocol):
    async def post(self, callback: Callback, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return what the receiver answered, or why it did not, within 15 s.

        Raises:
            RefusedCallback: It leads where it may not lead to.
        """


@dataclass(frozen=True, kw_only=True)
class WebhookStory:
    """What is known of a job whose end is to be told."""

    #: Of the event that has won, if it is known.
    sequence: str
    #: The run up to which the job is forgotten.
    forgotten: int
    #: Whether its callback URL has answered 410.
    disabled: bool
    #: What became of its webhooks, oldest first.
    tries: tuple[WebhookTry, ...]

    @property
    def run(self) -> int:
        """The run that the event which has won is about."""
        return int(self.sequence.partition(".")[0] or 0)


class WebhookLog(Protocol):
    """What became of webhooks. Every call may raise `StoreUnavailable`; repeating any of them is harmless."""

    async def story(self, job: Job) -> WebhookStory: ...

    async def record(self, job: Job, tried: WebhookTry) -> None:
        """Keep what became of a try."""

    async def waits(self, name: str, until: datetime) -> None:
        """Keep that a webhook waits in the ladder: it is no job."""

    async def disable(self, job: Job, *, disabled: bool) -> None:
        """Keep that the job's callback URL wants no more webhooks, or forget it."""


class PoisonStore(Protocol):
    async def record_poison(self, body: bytes, *, queue: str, reason: str, at: datetime) -> None:
        """Keep what there is to tell of an unreadable message.

        Raises:
            StoreUnavailable: Nothing is certain; recording the same again is harmless.
        """


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the log."""

    bodies: Sequence[bytes]
    #: The place behind it, from which the log can be read on.
    end: int


class Log(Protocol):
    def read(self, since: datetime | int | None) -> AsyncIterator[Page]:
        """Yield what the log holds, from a place or from about a time on, and up to now; there is a last page always.

        Raises:
            LogUnavailable: It can't be read now.
        """
