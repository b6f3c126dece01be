"""The values that events, announcements and the status document consist of. All are immutable."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

MAX_PARAMS = 64 * 1024
"""Maximum bytes of a job's params as JSON, with what is sealed of them: every event carries them."""
MAX_RESULT = 64 * 1024
"""Maximum bytes of a result inside an event and the document; larger ones are stored as files."""
MAX_OUTPUTS = 100
"""Maximum number of files that a handler may write: the event of the job's end lists them."""
MAX_EVENT = 256 * 1024
"""Maximum bytes of any message; larger ones go to the poison queue."""
MAX_COUNT = 2**53
"""The largest number that every reader of JSON reads exactly."""
MAX_ITEMS = 10
"""How many of a job's latest partial results its document shows."""
MAX_ITEM = 2 * 1024
"""Maximum bytes of one partial result as JSON."""
MAX_STATE = 16 * 1024 * 1024
"""Maximum bytes of the state that a handler saves for its next attempt, as JSON."""
MAX_EVENT_STATE = 32 * 1024
"""Maximum bytes of a saved state inside an event; larger ones are stored as files."""
MAX_LISTED_ATTEMPTS = 20
"""How many of a job's latest attempts its events and its document list."""
DEFAULT_START_WITHIN = timedelta(days=7)
"""How long a job may wait for its first start, by default."""
DEFAULT_MAX_RUNTIME = timedelta(minutes=10)
"""How long one attempt may take, by default: less than RabbitMQ's default consumer timeout of 30 minutes."""
MAX_CALLBACK_URL = 1_000
"""Maximum characters of a callback URL."""
LAST_STEP = 9_999_999_999
"""The step of the event that puts a job back: progress that is published later sorts before it."""
INFERRED_DELIVERY = 90_000_000
"""Added to the delivery number of an end that a tracker infers: it sorts after every event of the run but success and
cancel, so these alone undo it."""
FAILED_DELIVERY = 80_000_000
"""Added to the delivery number of a failure in its sequence: it sorts after every event of its run but success, cancel
and the ends that a tracker infers, so nothing that is stated later makes the job run again."""
MAX_STATED_DELIVERY = INFERRED_DELIVERY - FAILED_DELIVERY - 1
"""The highest delivery number of an event that is not inferred."""
MAX_DELIVERY = 99_999_999
"""The highest delivery number: it has eight digits in a sequence."""
MAX_RUN = 9_999
"""The highest number of a run: it has four digits in a sequence."""
MAX_DEPTH = 100
"""Maximum nesting of arrays and objects in params, items and results: JSON parsers limit it."""


def later_delivery(delivery: int, deliveries: int) -> int:
    """Return the delivery number after so many more deliveries, at most the highest that may be stated.

    Every event that follows on a message has its number from here, so no message can make the next one invalid.
    """
    return min(delivery + deliveries, MAX_STATED_DELIVERY)


WORD = r"^[a-z0-9]+(-[a-z0-9]+)*$"
"""Lower-case words with hyphens: they stand in routing keys, Redis keys and URLs."""


def _in_supported_years(moment: datetime) -> datetime:
    """Return the moment in UTC, in whole milliseconds, as documents show it.

    Refuse years that can't be rendered or to which no retention can be added.
    """
    # Checked before the conversion too: in the years 1 and 9999 it may overflow.
    in_utc = moment.astimezone(UTC) if _is_supported(moment) else moment
    if not _is_supported(in_utc):
        raise ValueError(f"the year {in_utc.year} is not within {_FIRST_YEAR} to {LAST_MOMENT.year}")
    return in_utc.replace(microsecond=in_utc.microsecond // 1000 * 1000)


def _is_supported(moment: datetime) -> bool:
    return _FIRST_YEAR <= moment.year <= LAST_MOMENT.year


_FIRST_YEAR = 1970
LAST_MOMENT = datetime(2500, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
"""The latest time that a message may carry."""
#: A moment in UTC, in whole milliseconds.
Moment = Annotated[AwareDatetime, AfterValidator(_in_supported_years)]
#: A length of time; on the wire an ISO 8601 duration.
Span = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=366))]
#: The name of a job type, for example `digest-files`.
TypeName = Annotated[str, Field(pattern=WORD, max_length=64)]
#: The prefix of every name in RabbitMQ and Redis, so that deployments can share both.
Namespace = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
#: The name of a queue, for example `cpu`.
QueueName = Annotated[str, Field(pattern=WORD, max_length=64)]
#: The name of a tenant, for example `default`.
TenantName = Annotated[str, Field(pattern=WORD, max_length=64)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
#: A JSON Schema (2020-12).
JsonSchema = dict[str, Any]


class Value(BaseModel):
    """Immutable, compared by content; unknown fields of a newer release are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True)


def _is_none(value: object) -> bool:
    """Whether to omit a field that older releases did not write, so that the bytes of a message do not change."""
    return value is None


def _is_empty(value: tuple[object, ...]) -> bool:
    return not value


MEDIA_TYPE = re.compile(r"^[A-Za-z0-9!#$&^_.+-]{1,40}/[A-Za-z0-9!#$&^_.+-]{1,50}$")
"""A media type without parameters (RFC 6838 §4.2)."""


class FileRef(Value):
    """A file that was submitted with a job, or that a handler wrote; its bytes are in blob storage."""

    name: str = Field(min_length=1, max_length=255)
    """The client's or the handler's name for it: a relative path, a label only."""
    size: int = Field(ge=0, le=MAX_COUNT)
    """Bytes."""
    key: str = Field(max_length=200)
    """Where the bytes are, relative to the deployment's blob storage."""
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", exclude_if=_is_none)
    """SHA-256 of the bytes, in hex."""
    media_type: str | None = Field(default=None, pattern=MEDIA_TYPE.pattern, exclude_if=_is_none)


Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0)]


class Progress(Value):
    """How far a job is, as its handler reported it."""

    done: Amount
    total: Amount | None = None
    percent: float | None = Field(default=None, ge=0, le=100)
    """0 to 100; null if the total is not known."""
    unit: str | None = Field(default=None, max_length=64)
    message: str | None = Field(default=None, max_length=500)
    rate: float | None = Field(default=None, ge=0)
    """Units per second, smoothed."""
    eta_seconds: float | None = Field(default=None, ge=0)


class Items(Value):
    """Partial results, visible while the job runs."""

    count: int = Field(default=0, ge=0, le=MAX_COUNT)
    last: tuple[JsonValue, ...] = Field(default=(), max_length=MAX_ITEMS)
    """The latest ones, oldest first, at most 10."""


MAX_ERROR_TEXT = 4_000
"""Maximum characters of an error message."""


class JobError(Value):
    """Why a job failed."""

    kind: str = Field(max_length=64)
    """What went wrong, for programs: `exception`, `invalid-params`, `timeout`, `expired`, `dead_lettered`, `lost`, …"""
    message: str = Field(max_length=MAX_ERROR_TEXT)
    """What went wrong, for people."""
    exception: str | None = Field(default=None, max_length=200)
    """The class of the exception, if there was one."""
    traceback: str | None = Field(default=None, max_length=16_000)


class Attempt(Value):
    """One attempt at a job, as known to the publisher of the event."""

    number: int = Field(ge=1, le=999_999)
    worker: str | None = Field(default=None, max_length=200)
    started_at: Moment
    ended_at: Moment | None = None
    """Null while the attempt runs, and if its processor was lost."""
    why: str | None = Field(default=None, max_length=300)
    """How it ended, for people: `succeeded`, `interrupted`, `lost`, `ValueError: …`."""

    @property
    def closed(self) -> Self:
        """The attempt as the next one lists it: one without an end was lost with its processor."""
        return self if self.ended_at or self.why else self.model_copy(update={"why": "lost"})


class PutOff(Value):
    """How long a job waits that a processor received and did not run: another one may be able to."""

    since: Moment | None = None
    """Since when processors have put it off because they can't run it; null if one only had no thread free."""
    until: Moment
    """When it is delivered again."""
    refusal: str | None = Field(default=None, max_length=500, exclude_if=_is_none)
    """How its params differ from the version of the type that a processor runs; null if no processor refused them."""


class Job(Value):
    """A complete snapshot of a job. Every event carries one, so any single event is enough to know the job."""

    id: str = Field(pattern=r"^[0-9a-z]{1,64}$")
    tenant: TenantName
    type: TypeName
    type_version: str | None = Field(default=None, max_length=64, exclude_if=_is_none)
    """The version of the type whose schema the gateway checked the params against."""
    queue: QueueName
    tags: tuple[Tag, ...] = ()
    batch: str | None = Field(default=None, pattern=r"^[0-9a-z]{1,64}$", exclude_if=_is_none)
    """The batch that the job was submitted in."""
    params: dict[str, JsonValue]
    """As they are shown: a mask stands in place of each secret."""
    sealed: str | None = Field(default=None, max_length=MAX_PARAMS, pattern=r"^\d{1,3}\.", exclude_if=_is_none)
    """The secrets among the params, encrypted for the processors of the deployment."""
    files: tuple[FileRef, ...] = ()
    callback_url: str | None = Field(default=None, max_length=MAX_CALLBACK_URL, exclude_if=_is_none)
    """The URL that gets a webhook when the job ends."""
    created_at: Moment
    run: int = Field(default=1, ge=1, le=MAX_RUN)
    """1 for the first run; a manual retry starts the next."""
    grant: str | None = Field(default=None, max_length=64, exclude_if=_is_none)
    """With this MAC a gateway lets this run of the job run, as what it is; see `grants`."""
    delivery: int = Field(default=0, ge=0, le=MAX_DELIVERY)
    """The delivery number, a fencing token: grows with every delivery in this run; 0 before the first."""
    attempt: int = Field(default=0, ge=0, le=999_999)
    """The number of the attempt: how often the handler was started in this run, interrupted attempts included."""
    execution: str = Field(default="0" * 8, pattern=r"^[0-9a-f]{8}$")
    """Distinguishes executions with the same delivery number: eight hex digits, chosen by the processor."""
    step: int = Field(default=0, ge=0, le=LAST_STEP)
    """Counts the events of one execution."""
    worker: str | None = Field(default=None, max_length=200)
    """The processor instance that runs the job, or ran its last attempt."""
    started_at: Moment | None = None
    finished_at: Moment | None = None
    progress: Progress | None = None
    items: Items = Items()
    result: JsonValue = None
    result_file: FileRef | None = Field(default=None, exclude_if=_is_none)
    """The result as a file, if it is too large for an event or not JSON; before the end, that of an earlier attempt."""
    outputs: tuple[FileRef, ...] = Field(default=(), max_length=MAX_OUTPUTS, exclude_if=_is_empty)
    """The files that the handler wrote. Before the end, earlier attempts wrote them."""
    error: JobError | None = None
    attempts: tuple[Attempt, ...] = Field(default=(), max_length=MAX_LISTED_ATTEMPTS)
    """The latest attempts, oldest first, including the current one."""
    retried: int = Field(default=0, ge=0, le=999_999)
    """How many retries have been used up in this run."""
    redelivered: int = Field(default=0, ge=0, le=999_999)
    """How often the job was redelivered before it was postponed; the broker counts each message separately."""
    quarantined: int = Field(default=0, ge=0, le=MAX_STATED_DELIVERY)
    """The delivery number with which the job was put into quarantine after too many deliveries; 0 if it was not."""
    run_at: Moment | None = None
    """When a scheduled, retrying or postponed job is delivered."""
    put_off: PutOff | None = Field(default=None, exclude_if=_is_none)
    """Set while the job waits for a processor that can run it, after another one could not."""
    start_within: Span = DEFAULT_START_WITHIN
    """How long the job may wait for its first start before it expires."""
    max_runtime: Span = DEFAULT_MAX_RUNTIME
    """How long one attempt may take."""
    saved_state: JsonValue = None
    """What the handler saved for its next attempt."""
    saved_state_file: FileRef | None = Field(default=None, exclude_if=_is_none)
    """The saved state as a file, if it is too large for an event."""
    canceled_how: Literal["before-start", "cooperative", "forced"] | None = None
    """How a canceled job was stopped."""
    unclaimed: bool = False
    """True if the processor ran the job without a claim, because Redis did not answer."""

    @property
    def all_files(self) -> tuple[FileRef, ...]:
        """Every file that it refers to."""
        others = (file for file in (self.result_file, self.saved_state_file) if file is not None)
        return (*self.files, *self.outputs, *others)


def is_own_file(file: FileRef, job_id: str) -> bool:
    """Whether a file is in the folder of this job in blob storage: nobody reads another job's through it (law 11)."""
    return file.key.startswith(f"jobs/{job_id}/") and _FILE_KEY.fullmatch(file.key) is not None


#: No dots, so no way up; no empty segments, backslashes or control characters.
_FILE_KEY = re.compile(r"jobs(/[0-9a-z-]+)+")


def utc_text(moment: datetime | None) -> str | None:
    """Render a moment as RFC 3339 in UTC with milliseconds and a `Z`."""
    if moment is None:
        return None
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z"


def clipped(text: str, length: int) -> str:
    """Return the first characters of a text, with lone surrogates replaced: they can't be encoded as UTF-8."""
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
