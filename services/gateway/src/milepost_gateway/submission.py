"""Accepting a job: parse → check → id → one confirmed publish → 202 (law 1)."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from milepost_contracts.envelope import now
from milepost_contracts.events import JobSubmitted
from milepost_contracts.ids import Keyring
from milepost_contracts.problems import ProblemDetail
from milepost_contracts.values import MAX_EVENT, MAX_PARAMS, FileRef, Job, QueueName, Tag
from milepost_gateway.catalogue import Catalogue
from milepost_gateway.errors import InvalidSubmission, NotAccepted, OutcomeUnknown, PayloadTooLarge, StoreUnavailable
from milepost_gateway.ports import Blobs, Broker

MAX_TAGS = 16


class Submission(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: One of the announced job types.
    type: str = Field(min_length=1, max_length=64, examples=["digest-files"])
    #: What the type's schema asks for; see `/v1/job-types`.
    params: dict[str, JsonValue] = Field(default_factory=dict)
    #: The queue of the type; nothing means the same.
    queue: QueueName | None = None
    #: Words of your own to find the job by.
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)

    @classmethod
    def read(cls, value: Any) -> "Submission":
        """Read a JSON value.

        Raises:
            InvalidSubmission: With every place that does not fit.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InvalidSubmission(
                [
                    ProblemDetail(
                        pointer="".join(f"/{step}" for step in one["loc"]),
                        detail=_plain(one["type"], one["msg"]),
                    )
                    for one in error.errors(include_input=False, include_url=False)[:20]
                ]
            ) from error


class Upload(Protocol):
    """A file on its way in."""

    @property
    def name(self) -> str: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Accepts submissions for one deployment."""

    keyring: Keyring
    catalogue: Catalogue
    broker: Broker
    blobs: Blobs

    async def accept(
        self, submission: Submission, *, tenant: str, uploads: Sequence[Upload], traceparent: str | None
    ) -> JobSubmitted:
        """Return once the job is a durable fact.

        Raises:
            GatewayError: It was not accepted, or nobody can say; the class tells which.
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

        job_id = self.keyring.issue(tenant)
        created_at = self.keyring.verify(job_id, tenant).created_at
        files = await self._store(job_id, uploads)
        command = JobSubmitted(
            time=now(),
            traceparent=traceparent,
            job=Job(
                id=job_id,
                tenant=tenant,
                type=known.announced.type,
                queue=known.announced.queue,
                tags=tuple(submission.tags),
                params=submission.params,
                files=files,
                created_at=created_at,
            ),
        )
        try:
            await self.broker.submit(command)
        except OutcomeUnknown:
            raise  # the job may run, and would miss its files
        except BaseException:
            await self.blobs.remove([file.key for file in files])
            raise
        return command

    async def _store(self, job_id: str, uploads: Sequence[Upload]) -> tuple[FileRef, ...]:
        stored: list[FileRef] = []
        try:
            for number, upload in enumerate(uploads):
                key = f"jobs/{job_id}/{number:04d}"
                size = await self.blobs.put(key, upload.chunks())
                stored.append(FileRef(name=upload.name, size=size, key=key))
            _check_names(stored)
        except BaseException:
            await self.blobs.remove([file.key for file in stored])
            raise
        return tuple(stored)


def _check_names(files: Sequence[FileRef]) -> None:
    """Every event of the job carries the names of its files."""
    size, room = len(pydantic_core.to_json(files)), MAX_EVENT // 2
    if size > room:
        raise PayloadTooLarge(f"the names of {len(files)} files take {size} bytes together; {room} are allowed")


def _plain(kind: str, message: str) -> str:
    return "there is no such field" if kind == "extra_forbidden" else message
