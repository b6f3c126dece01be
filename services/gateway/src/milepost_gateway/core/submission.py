"""Accepts jobs: parse → check → id → store the files → one confirmed publish → 202 (law 1)."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol, Self, TypeVar

import pydantic_core
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from milepost_contracts.clock import now
from milepost_contracts.grants import granted
from milepost_contracts.http.problems import ProblemDetail
from milepost_contracts.ids import Keyring
from milepost_contracts.messages.delay_levels import MAX_DELAY
from milepost_contracts.messages.job_events import JobScheduled, JobSubmitted
from milepost_contracts.secret_params import Secrets
from milepost_contracts.values import (
    DEFAULT_START_WITHIN,
    MAX_CALLBACK_URL,
    MAX_EVENT,
    MAX_PARAMS,
    FileRef,
    Job,
    Moment,
    QueueName,
    Tag,
    Value,
)
from milepost_gateway import metrics
from milepost_gateway.core.callback_urls import CallbackUrls
from milepost_gateway.core.job_types import KnownType, KnownTypes
from milepost_gateway.core.quotas import Quotas
from milepost_gateway.errors import (
    BlobStoreUnavailable,
    InvalidSubmission,
    NotAccepted,
    PayloadTooLarge,
    StoreUnavailable,
)
from milepost_gateway.ports.blob_store import BlobStore
from milepost_gateway.ports.broker import Broker, Submitted
from milepost_service.sealing import SEAL_KEYS, Sealer

MAX_TAGS = 16
CHECK_TIMEOUT = 5.0
"""Seconds within which the params of a request must be checked, where that takes long."""
M = TypeVar("M", bound=BaseModel)


def _moment(value: Any) -> Any:
    """Accept only text with a date: the unit of a bare number is unknown."""
    if not (isinstance(value, str) and _DATED.match(value)):
        raise ValueError("it is not a time such as 2026-01-31T12:00:00Z")
    return _MOMENTS.validate_python(value)


def _within_max_delay(moment: datetime) -> datetime:
    if moment - now() > MAX_DELAY:
        raise ValueError(f"it is more than {MAX_DELAY.days} days away")
    return moment


_DATED = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENTS: TypeAdapter[datetime] = TypeAdapter(Moment)
_MAX_SECONDS = MAX_DELAY.total_seconds()
TextMoment = Annotated[Moment, BeforeValidator(_moment)]
FutureMoment = Annotated[TextMoment, AfterValidator(_within_max_delay)]
Seconds = Annotated[float, Field(ge=0, le=_MAX_SECONDS, allow_inf_nan=False)]
Lifetime = Annotated[float, Field(ge=1, le=_MAX_SECONDS, allow_inf_nan=False)]


EXAMPLE: dict[str, JsonValue] = {"type": "count", "params": {"steps": 3}}


class Submission(Value):
    """A job as a client submits it."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]})

    type: str = Field(min_length=1, max_length=64, examples=["count"])
    """One of the announced job types."""
    params: dict[str, JsonValue] = Field(default_factory=dict)
    """Must match the type's schema; see `/v1/job-types`. What it marks `writeOnly` or `format: password` is sealed."""
    queue: QueueName | None = None
    """If given, it must be the queue of the type."""
    run_at: FutureMoment | None = None
    """The job starts at this time or later: RFC 3339 with a time zone, up to 90 days from now."""
    delay: Seconds | None = None
    """Seconds from now before which the job does not start, up to 90 days; not with `run_at`."""
    expires_in: Lifetime | None = None
    """Seconds that the job may wait for its start, from `run_at` or now, before it expires. 7 days by default."""
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    """Labels to find the job by."""
    callback_url: str | None = Field(
        default=None, min_length=1, max_length=MAX_CALLBACK_URL, examples=["https://example.com/hooks/milepost"]
    )
    """The URL to which a webhook (Standard Webhooks) is sent at the job's end; https, and a public host."""

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise ValueError("give run_at or delay, not both")
        return self

    def due(self, at: datetime) -> datetime | None:
        """Return when a job that is submitted at this time is to run; `None` means at once."""
        return self.run_at if self.delay is None else at + timedelta(seconds=self.delay)

    @classmethod
    def read(cls, value: Any) -> "Submission":
        """Read a JSON value.

        Raises:
            InvalidSubmission: It is invalid; carries up to 20 validation errors.
        """
        return read_strictly(cls, value)


def read_strictly(kind: type[M], value: Any) -> M:
    """Read a JSON value as a model.

    Raises:
        InvalidSubmission: It is invalid; carries up to 20 validation errors.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidSubmission(
            [
                ProblemDetail(
                    pointer="".join(f"/{step}" for step in one["loc"]),
                    detail=error_text(one["type"], one["msg"]),
                )
                for one in error.errors(include_input=False, include_url=False)[:20]
            ]
        ) from error


class Upload(Protocol):
    """A file that is being uploaded."""

    @property
    def name(self) -> str: ...

    @property
    def media_type(self) -> str | None: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, kw_only=True)
class CheckedSubmission:
    """A valid submission."""

    submission: Submission
    known: KnownType
    #: As they are shown: with masks in place of the secrets.
    params: dict[str, JsonValue]
    #: Without them in logs and tracebacks.
    secrets: Secrets = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Accepts submissions for one deployment."""

    keyring: Keyring
    job_types: KnownTypes
    quotas: Quotas
    broker: Broker
    blob_store: BlobStore
    callback_urls: CallbackUrls
    sealer: Sealer

    async def accept(
        self,
        submission: Submission,
        *,
        tenant: str,
        uploads: Sequence[Upload],
        traceparent: str | None,
        job_id: str | None = None,
    ) -> Submitted:
        """Return once the job is stored durably. A `job_id` is given if it is derived from an Idempotency-Key.

        Raises:
            GatewayError: The job was not accepted, or that can't be known; the class says which.
        """
        until = asyncio.get_running_loop().time() + CHECK_TIMEOUT
        checked = await self.check(submission, tenant=tenant, until=until)
        await self.quotas.acquire(tenant)
        return await self.submit(checked, tenant=tenant, uploads=uploads, traceparent=traceparent, job_id=job_id)

    async def check(self, submission: Submission, *, tenant: str, until: float) -> CheckedSubmission:
        """Return a valid submission with its job type, and its secrets apart.

        Params that take long are checked until this time of the loop.

        Raises:
            UnknownJobType, InvalidSubmission, PayloadTooLarge: It is invalid.
            NotAccepted: It can't be checked now.
        """
        try:
            known = await self.job_types.find(submission.type)
        except StoreUnavailable as error:
            raise NotAccepted(f"the job types are not known now: {error}") from error
        if submission.queue not in (None, known.announced.queue):
            detail = f"the queue of the job type {submission.type} is {known.announced.queue}"
            raise InvalidSubmission([ProblemDetail(pointer="/queue", detail=detail)])
        as_json = pydantic_core.to_json(submission.params)
        _check_size(len(as_json), "as JSON")
        await known.check(submission.params, as_json, tenant=tenant, until=until)
        params, secrets = known.split(submission.params)
        if secrets:
            self._check_sealing(known.announced.type, params, secrets)
        if submission.callback_url is not None:
            await self.callback_urls.check(submission.callback_url)
        return CheckedSubmission(submission=submission, known=known, params=params, secrets=secrets)

    def _check_sealing(self, type_name: str, params: dict[str, JsonValue], secrets: Secrets) -> None:
        if not self.sealer.has_keys:
            raise NotAccepted(
                f"params of the type {type_name} are secret, and the gateway can't seal them: set {SEAL_KEYS}"
            )
        _check_size(len(pydantic_core.to_json(params)) + self.sealer.size(secrets), "with the secret ones sealed")

    async def submit(
        self,
        checked: CheckedSubmission,
        *,
        tenant: str,
        uploads: Sequence[Upload] = (),
        batch: str | None = None,
        traceparent: str | None,
        job_id: str | None = None,
    ) -> Submitted:
        """Return once a job that was checked is stored durably.

        Raises:
            GatewayError: The job was not accepted, or that can't be known; the class says which.
        """
        created_at = now()
        fresh = job_id is None  # else another request may have submitted the same job, with the same files
        if job_id is None:
            job_id = self.keyring.issue(tenant)
            created_at = self.keyring.verify(job_id, tenant).created_at
        files = await self._store(job_id, uploads, fresh=fresh)
        at = now()
        submission, announced = checked.submission, checked.known.announced
        job = Job(
            id=job_id,
            tenant=tenant,
            type=announced.type,
            type_version=announced.version or None,
            queue=announced.queue,
            tags=tuple(submission.tags),
            batch=batch,
            params=checked.params,
            files=files,
            callback_url=submission.callback_url,
            created_at=created_at,
            run_at=submission.due(at),
            start_within=timedelta(seconds=submission.expires_in) if submission.expires_in else DEFAULT_START_WITHIN,
            max_runtime=announced.max_runtime,
        )
        sealed = self.sealer.seal(job, checked.secrets)
        command = submitted(granted(sealed, self.keyring), at=at, traceparent=traceparent)
        try:
            await self.broker.submit(command)
            metrics.submitted.labels(command.job.type).inc()
        except NotAccepted:  # after any other error the job may run, and needs its files
            if fresh:
                await self.blob_store.remove([file.key for file in files])
            raise
        return command

    async def _store(self, job_id: str, uploads: Sequence[Upload], *, fresh: bool) -> tuple[FileRef, ...]:
        stored: list[FileRef] = []
        try:
            for number, upload in enumerate(uploads):
                key = f"jobs/{job_id}/{number:04d}"
                put = await self.blob_store.put(key, upload.chunks())
                stored.append(
                    FileRef(name=upload.name, size=put.size, key=key, digest=put.digest, media_type=upload.media_type)
                )
            _check_names(stored)
        except BaseException as error:
            if fresh:
                await self.blob_store.remove([file.key for file in stored])
            if isinstance(error, BlobStoreUnavailable):
                raise NotAccepted("the file storage does not answer") from error
            raise
        return tuple(stored)


def submitted(job: Job, *, at: datetime, traceparent: str | None = None) -> Submitted:
    """Return the command that submits the job: `JobScheduled` if it is to run later, else `JobSubmitted`."""
    kind = JobScheduled if job.run_at is not None and job.run_at > at else JobSubmitted
    return kind(job=job, time=at, traceparent=traceparent)


def _check_size(size: int, how: str) -> None:
    if size > MAX_PARAMS:
        raise PayloadTooLarge(f"The params have {size} bytes {how}; {MAX_PARAMS} are allowed.")


def _check_names(files: Sequence[FileRef]) -> None:
    """Raise `PayloadTooLarge` if the file names are too long: every event of the job carries them."""
    size, room = len(pydantic_core.to_json(files)), MAX_EVENT // 2
    if size > room:
        raise PayloadTooLarge(f"The names of {len(files)} files take {size} bytes together; {room} are allowed.")


def error_text(kind: str, message: str) -> str:
    """Return the text of a validation error of pydantic, by its type and message."""
    return "unknown field" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
