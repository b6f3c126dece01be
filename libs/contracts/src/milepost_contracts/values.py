"""The values that events, the catalogue and the status document are made of. All are immutable."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

MAX_PARAMS = 64 * 1024
"""The most bytes of a job's params as JSON: every event carries them."""
MAX_RESULT = 64 * 1024
"""The most bytes of a result that travels inside an event and the document."""
MAX_OUTPUTS = 100
"""The most files that a handler may write: every event of the job carries their names."""
MAX_EVENT = 256 * 1024
"""The most bytes of any message; a tracker parks what is larger."""
LAST_ITEMS = 10
"""How many of a job's latest partial results its document shows."""
MAX_ITEM = 2 * 1024
"""The most bytes of one partial result as JSON."""
MAX_STATE = 32 * 1024
"""The most bytes of what a handler saves for its next attempt, as JSON: it travels in every event until then."""
LAST_ATTEMPTS = 20
"""How many of a job's latest attempts its document shows."""
START_WITHIN = timedelta(days=7)
"""How long a job waits to be started, where nobody says otherwise."""
MAX_RUNTIME = timedelta(minutes=10)
"""How long one attempt may take, where its type does not say otherwise: less than RabbitMQ's consumer timeout."""
MAX_CALLBACK_URL = 1_000
LAST_STEP = 9_999_999_999
MAX_RUN = 9_999
"""The step of the event that puts an execution off: progress that is still on its way sorts before it."""
MAX_DEPTH = 100
"""The most levels of arrays and objects in params, items and results: readers of JSON give up at some depth."""

WORD = r"^[a-z0-9]+(-[a-z0-9]+)*$"
"""Lower-case words with hyphens: they stand in routing keys, Redis keys and URLs."""


def _in_sane_years(moment: datetime) -> datetime:
    """Take moments that can be rendered, and to which a retention can be added; in UTC."""
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(f"the year {moment.year} is not within {_FIRST_YEAR} to {_LAST_YEAR}")
    return moment.astimezone(UTC)


_FIRST_YEAR, _LAST_YEAR = 1970, 2500
#: A moment in UTC.
Moment = Annotated[AwareDatetime, AfterValidator(_in_sane_years)]
#: A length of time; on the wire an ISO 8601 duration.
Span = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=366))]
#: The name of a job type, for example `digest-files`.
TypeName = Annotated[str, Field(pattern=WORD, max_length=64)]
#: The name of a queue, for example `cpu`.
QueueName = Annotated[str, Field(pattern=WORD, max_length=64)]
#: Whose jobs they are, for example `default`.
TenantName = Annotated[str, Field(pattern=WORD, max_length=64)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
#: A JSON Schema (2020-12).
JsonSchema = dict[str, Any]


class Value(BaseModel):
    """Immutable, compared by content; unknown fields of a newer release are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def _is_none(value: object) -> bool:
    """Say whether to leave out what older releases did not write: the bytes of a message stay what they were."""
    return value is None


def _is_empty(value: tuple[object, ...]) -> bool:
    return not value


class FileRef(Value):
    """A file that travelled with a submission, or that a handler wrote; its bytes are in blob storage."""

    #: The client's or the handler's name for it: a relative path, a label only.
    name: str = Field(min_length=1, max_length=255)
    #: Bytes.
    size: int = Field(ge=0)
    #: Where the bytes are, relative to the deployment's blob storage.
    key: str = Field(max_length=200)
    #: SHA-256 of the bytes, in hex.
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", exclude_if=_is_none)
    media_type: str | None = Field(default=None, max_length=100, exclude_if=_is_none)


Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0)]


class Progress(Value):
    """How far a job is, as its handler reported it."""

    done: Amount
    total: Amount | None = None
    #: 0 to 100, or nothing when the total is not known.
    percent: float | None = Field(default=None, ge=0, le=100)
    unit: str | None = Field(default=None, max_length=64)
    message: str | None = Field(default=None, max_length=500)
    #: Units a second, smoothed.
    rate: float | None = Field(default=None, ge=0)
    eta_seconds: float | None = Field(default=None, ge=0)


class Items(Value):
    """Partial results, seen while the job runs."""

    count: int = Field(default=0, ge=0)
    #: The latest ones, oldest first, at most `LAST_ITEMS`.
    last: tuple[JsonValue, ...] = Field(default=(), max_length=LAST_ITEMS)


MAX_MESSAGE = 4_000
"""Characters of what went wrong."""


class JobError(Value):
    """Why a job failed."""

    #: What went wrong, for programs: `exception`, `invalid-params`, `timeout`, `expired`, `dead_lettered`, `lost`, …
    kind: str = Field(max_length=64)
    #: The same for people.
    message: str = Field(max_length=MAX_MESSAGE)
    #: The exception's class, where there was one.
    exception: str | None = Field(default=None, max_length=200)
    traceback: str | None = Field(default=None, max_length=16_000)


class Attempt(Value):
    """One attempt at a job, as far as the processor that speaks knows."""

    number: int = Field(ge=1, le=999_999)
    worker: str | None = Field(default=None, max_length=200)
    started_at: Moment
    #: Nothing while it runs, and for an attempt whose processor was lost.
    ended_at: Moment | None = None
    #: How it ended, for people: `succeeded`, `interrupted`, `lost`, `ValueError: …`.
    why: str | None = Field(default=None, max_length=300)

    @property
    def settled(self) -> Self:
        """The attempt as it is told once another one follows: one that never ended was lost with its processor."""
        return self if self.ended_at or self.why else self.model_copy(update={"why": "lost"})


class Job(Value):
    """The whole current snapshot of a job: every event carries one, so that any single event is enough to know it."""

    id: str = Field(pattern=r"^[0-9a-z]{1,64}$")
    tenant: TenantName
    type: TypeName
    queue: QueueName
    tags: tuple[Tag, ...] = ()
    #: The batch that it came with.
    batch: str | None = Field(default=None, pattern=r"^[0-9a-z]{1,64}$", exclude_if=_is_none)
    params: dict[str, JsonValue]
    files: tuple[FileRef, ...] = ()
    #: Where its end is told, by a webhook.
    callback_url: str | None = Field(default=None, max_length=MAX_CALLBACK_URL, exclude_if=_is_none)
    created_at: Moment
    #: 1 for the first run; a manual retry starts the next.
    run: int = Field(default=1, ge=1, le=MAX_RUN)
    #: The fence: grows with every delivery in this run, as the messages and the broker count; 0 before the first.
    turn: int = Field(default=0, ge=0, le=99_999_999)
    #: Which attempt this is, for people: interruptions don't count, nor do deliveries that never started.
    attempt: int = Field(default=0, ge=0, le=999_999)
    #: Tells two executions apart that have the same turn: eight hex digits, chosen by the processor.
    execution: str = Field(default="0" * 8, pattern=r"^[0-9a-f]{8}$")
    #: Counts the events of one execution.
    step: int = Field(default=0, ge=0, le=LAST_STEP)
    #: The processor instance that has the job.
    worker: str | None = Field(default=None, max_length=200)
    started_at: Moment | None = None
    finished_at: Moment | None = None
    progress: Progress | None = None
    items: Items = Items()
    result: JsonValue = None
    #: The result, where it is too large to travel, or no JSON.
    result_file: FileRef | None = Field(default=None, exclude_if=_is_none)
    #: What the handler wrote.
    outputs: tuple[FileRef, ...] = Field(default=(), max_length=MAX_OUTPUTS, exclude_if=_is_empty)
    error: JobError | None = None
    #: The latest attempts, oldest first, with the present one.
    attempts: tuple[Attempt, ...] = Field(default=(), max_length=LAST_ATTEMPTS)
    #: How many retries have been used up in this run.
    retried: int = Field(default=0, ge=0, le=999_999)
    #: How often its message was delivered again before it was put off; the broker counts each message anew.
    redelivered: int = Field(default=0, ge=0, le=999_999)
    #: The turn with which it was put into quarantine, having been delivered too often; 0 if it was not.
    quarantined: int = Field(default=0, ge=0, le=99_999_999)
    #: When a scheduled or retrying job is delivered.
    run_at: Moment | None = None
    #: How long the job waits to be started before it ends as expired.
    start_within: Span = START_WITHIN
    #: How long one attempt may take.
    max_runtime: Span = MAX_RUNTIME
    #: What the handler saved for its next attempt.
    saved_state: JsonValue = None
    #: How a canceled job came to its end.
    canceled_how: Literal["before-start", "cooperative", "forced"] | None = None
    #: True when the processor could not reach the gate (Redis) and ran the job without its word.
    ungated: bool = False


def utc_text(moment: datetime | None) -> str | None:
    """Render as RFC 3339 in UTC with milliseconds and a `Z`."""
    if moment is None:
        return None
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z"


def fitting(text: str, length: int) -> str:
    """Return the beginning of a text as UTF-8 can carry it: half a surrogate pair must make no message impossible."""
    return text[:length].encode(errors="replace").decode()


def too_deep(value: object) -> bool:
    """Whether a JSON value has more than `MAX_DEPTH` levels."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for one in level
            if isinstance(one, list | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
