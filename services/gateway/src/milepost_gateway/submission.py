"""Accepting a job: parse → check → id → one confirmed publish → 202 (law 1)."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
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

from milepost_contracts.delay import MAX_DELAY
from milepost_contracts.envelope import now
from milepost_contracts.events import JobScheduled, JobSubmitted
from milepost_contracts.ids import Keyring
from milepost_contracts.problems import ProblemDetail
from milepost_contracts.values import (
    MAX_CALLBACK_URL,
    MAX_EVENT,
    MAX_PARAMS,
    START_WITHIN,
    FileRef,
    Job,
    Moment,
    QueueName,
    Tag,
)
from milepost_gateway import metrics
from milepost_gateway.admission import Admission
from milepost_gateway.callbacks import Callbacks
from milepost_gateway.catalogue import Catalogue, KnownType
from milepost_gateway.errors import BlobsUnavailable, InvalidSubmission, NotAccepted, PayloadTooLarge, StoreUnavailable
from milepost_gateway.ports import Blobs, Broker, Submitted

MAX_TAGS = 16
M = TypeVar("M", bound=BaseModel)


def _moment(value: Any) -> Any:
    """Take text only: a bare number says not in which unit it is."""
    if not (isinstance(value, str) and _DATED.match(value)):
        raise ValueError("it is not a time as text, such as 2026-01-31T12:00:00Z")
    return _MOMENTS.validate_python(value)


def _soon_enough(moment: datetime) -> datetime:
    if moment - now() > MAX_DELAY:
        raise ValueError(f"it is more than {MAX_DELAY.days} days away")
    return moment


_DATED = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENTS: TypeAdapter[datetime] = TypeAdapter(Moment)
_MOST_SECONDS = MAX_DELAY.total_seconds()
TextMoment = Annotated[Moment, BeforeValidator(_moment)]
Later = Annotated[TextMoment, AfterValidator(_soon_enough)]
Seconds = Annotated[float, Field(ge=0, le=_MOST_SECONDS, allow_inf_nan=False)]
Lifetime = Annotated[float, Field(ge=1, le=_MOST_SECONDS, allow_inf_nan=False)]


class Submission(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: One of the announced job types.
    type: str = Field(min_length=1, max_length=64, examples=["digest-files"])
    #: What the type's schema asks for; see `/v1/job-types`.
    params: dict[str, JsonValue] = Field(default_factory=dict)
    #: The queue of the type; nothing means the same.
    queue: QueueName | None = None
    #: Not before this time: RFC 3339 with a time zone, up to 90 days from now.
    run_at: Later | None = None
    #: Not before so many seconds from now, up to 90 days; either this or `run_at`.
    delay: Seconds | None = None
    #: How many seconds the job may wait to be started, from then on; it ends as expired otherwise. 7 days by default.
    expires_in: Lifetime | None = None
    #: Words of your own to find the job by.
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    #: Where the job's end is told, by a webhook (Standard Webhooks); https, to a host that everybody can reach.
    callback_url: str | None = Field(
        default=None, min_length=1, max_length=MAX_CALLBACK_URL, examples=["https://example.com/hooks/milepost"]
    )

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise ValueError("give run_at or delay, not both")
        return self

    def due(self, at: datetime) -> datetime | None:
        """When a job that is submitted at this time is to run; nothing means at once."""
        return self.run_at if self.delay is None else at + timedelta(seconds=self.delay)

    @classmethod
    def read(cls, value: Any) -> "Submission":
        """Read a JSON value.

        Raises:
            InvalidSubmission: With every place that does not fit.
        """
        return read_strictly(cls, value)


def read_strictly(kind: type[M], value: Any) -> M:
    """Read a JSON value as a model.

    Raises:
        InvalidSubmission: With every place that does not fit.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidSubmission(
            [
                ProblemDetail(
                    pointer="".join(f"/{step}" for step in one["loc"]),
                    detail=plain(one["type"], one["msg"]),
                )
                for one in error.errors(include_input=False, include_url=False)[:20]
            ]
        ) from error


class Upload(Protocol):
    """A file on its way in."""

    @property
    def name(self) -> str: ...

    @property
    def media_type(self) -> str | None: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Accepts submissions for one deployment."""

    keyring: Keyring
    catalogue: Catalogue
    admission: Admission
    broker: Broker
    blobs: Blobs
    callbacks: Callbacks

    async def accept(
        self,
        submission: Submission,
        *,
        tenant: str,
        uploads: Sequence[Upload],
        traceparent: str | None,
        job_id: str | None = None,
    ) -> Submitted:
        """Return once the job is a durable fact. An id that is given follows from what the caller knows the job by.

        Raises:
            GatewayError: It was not accepted, or nobody can say; the class tells which.
        """
        known = await self.check(submission)
        await self.admission.admit(tenant)
        return await self.hand_over(
            submission, known, tenant=tenant, uploads=uploads, traceparent=traceparent, job_id=job_id
        )

    async def check(self, submission: Submission) -> KnownType:
        """Return the type of a submission that fits.

        Raises:
            UnknownJobType, InvalidSubmission, PayloadTooLarge: It does not.
            NotAccepted: Nobody can say now.
        """
        try:
            known = await self.catalogue.find(submission.type)
        except StoreUnavailable as error:
            raise NotAccepted("whether there is such a job type can't be read now") from error
        if submission.queue not in (None, known.announced.queue):
            detail = f"jobs of type {submission.type} wait in the queue {known.announced.queue}"
            raise InvalidSubmission([ProblemDetail(pointer="/queue", detail=detail)])
        size = len(pydantic_core.to_json(submission.params))
        if size > MAX_PARAMS:
            raise PayloadTooLarge(f"the params have {size} bytes as JSON; {MAX_PARAMS} are allowed")
        known.check(submission.params)
        if submission.callback_url is not None:
            await self.callbacks.check(submission.callback_url)
        return known

    async def hand_over(
        self,
        submission: Submission,
        known: KnownType,
        *,
        tenant: str,
        uploads: Sequence[Upload] = (),
        batch: str | None = None,
        traceparent: str | None,
        job_id: str | None = None,
    ) -> Submitted:
        """Return once a job that fits is a durable fact.

        Raises:
            GatewayError: It was not accepted, or nobody can say; the class tells which.
        """
        created_at = now()
        fresh = job_id is None  # else another request may have handed the same job over, with the same files
        if job_id is None:
            job_id = self.keyring.issue(tenant)
            created_at = self.keyring.verify(job_id, tenant).created_at
        files = await self._store(job_id, uploads, fresh=fresh)
        at = now()
        command = submitted(
            at=at,
            traceparent=traceparent,
            job=Job(
                id=job_id,
                tenant=tenant,
                type=known.announced.type,
                queue=known.announced.queue,
                tags=tuple(submission.tags),
                batch=batch,
                params=submission.params,
                files=files,
                callback_url=submission.callback_url,
                created_at=created_at,
                run_at=submission.due(at),
                start_within=timedelta(seconds=submission.expires_in) if submission.expires_in else START_WITHIN,
                max_runtime=known.announced.max_runtime,
            ),
        )
        try:
            await self.broker.submit(command)
            metrics.submitted.labels(command.job.type).inc()
        except NotAccepted:  # whatever else goes wrong, the job may run, and would miss its files
            if fresh:
                await self.blobs.remove([file.key for file in files])
            raise
        return command

    async def _store(self, job_id: str, uploads: Sequence[Upload], *, fresh: bool) -> tuple[FileRef, ...]:
        stored: list[FileRef] = []
        try:
            for number, upload in enumerate(uploads):
                key = f"jobs/{job_id}/{number:04d}"
                put = await self.blobs.put(key, upload.chunks())
                stored.append(
                    FileRef(name=upload.name, size=put.size, key=key, digest=put.digest, media_type=upload.media_type)
                )
            _check_names(stored)
        except BaseException as error:
            if fresh:
                await self.blobs.remove([file.key for file in stored])
            if isinstance(error, BlobsUnavailable):
                raise NotAccepted("the file storage does not take its files") from error
            raise
        return tuple(stored)


def submitted(job: Job, *, at: datetime, traceparent: str | None = None) -> Submitted:
    """Return what says that the job is accepted: for now, or for its time."""
    kind = JobScheduled if job.run_at is not None and job.run_at > at else JobSubmitted
    return kind(job=job, time=at, traceparent=traceparent)


def _check_names(files: Sequence[FileRef]) -> None:
    """Every event of the job carries the names of its files."""
    size, room = len(pydantic_core.to_json(files)), MAX_EVENT // 2
    if size > room:
        raise PayloadTooLarge(f"the names of {len(files)} files take {size} bytes together; {room} are allowed")


def plain(kind: str, message: str) -> str:
    """Return in our words what pydantic found, by its type and message."""
    return "there is no such field" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
