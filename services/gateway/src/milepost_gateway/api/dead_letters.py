"""`/v1/dead-letters`: what the broker gave up, and handing it over again."""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from milepost_contracts.dead_letters import DeadLetter, DeadLetters, Unreadable
from milepost_contracts.document import JobDocument
from milepost_contracts.values import WORD, Job
from milepost_gateway.access import OPEN_TENANT
from milepost_gateway.api import responses
from milepost_gateway.api.access import MAY_ADMINISTER, tenant
from milepost_gateway.api.jobs import next_run
from milepost_gateway.api.requests import read_model, refuse_unknown_parameters
from milepost_gateway.api.services import Services, services
from milepost_gateway.dead_letters import Filter
from milepost_gateway.errors import JobExpired, StoreUnavailable
from milepost_gateway.submission import TextMoment

router = APIRouter(prefix="/v1", tags=["dead letters"], dependencies=[MAY_ADMINISTER])

MOST_AT_ONCE = 1_000


class RedriveRequest(BaseModel):
    """Which dead letters to hand over again, and how fast."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: str | None = Field(default=None, pattern=WORD, max_length=64)
    queue: str | None = Field(default=None, pattern=WORD, max_length=64)
    #: Only those that were given up before this time.
    before: TextMoment | None = None
    limit: int = Field(default=100, ge=1, le=MOST_AT_ONCE)
    #: At most so many a second; the broker holds back the later ones. All at once by default.
    rate: float | None = Field(default=None, ge=0.001, le=10_000)
    #: Only say which it would be.
    dry_run: bool = False


class Redriven(BaseModel):
    dry_run: bool
    count: int
    job_ids: list[str]
    #: How many more fit, and were not handed over, for the broker stopped taking them: ask again.
    left: int = 0


_Word = Annotated[str | None, Query(pattern=WORD, max_length=64)]


@router.get(
    "/dead-letters",
    summary="List what the broker gave up, newest first",
    responses=responses.problems(400, 503),
)
async def list_dead_letters(
    request: Request, type: _Word = None, queue: _Word = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> DeadLetters:
    """Answer the jobs that were given up, and to admins of `default` the messages that nobody could read."""
    refuse_unknown_parameters(request, "type", "queue", "limit")
    found = services(request).dead_letters
    jobs = await found.find(Filter(type_name=type, queue=queue), tenant=tenant(request), limit=limit)
    bodies = await found.unreadable(limit) if tenant(request) == OPEN_TENANT else ()
    unreadable = [Unreadable.model_validate_json(body) for body in bodies]
    return DeadLetters(items=tuple(_told(job) for job in jobs), unreadable=tuple(unreadable))


@router.post(
    "/dead-letters/{job_id}/redrive",
    status_code=202,
    summary="Hand a dead letter over again",
    response_model=JobDocument,
    responses=responses.problems(404, 409, 503),
)
async def redrive(request: Request, job_id: str) -> Response:
    """Answer 202 once the job's next run is stored durably."""
    parts = services(request)
    job = await parts.dead_letters.redrive(await parts.dead_letters.get(job_id, tenant=tenant(request)))
    return await next_run(request, job)


@router.post(
    "/dead-letters:redrive",
    status_code=202,
    summary="Hand many dead letters over again",
    response_model=Redriven,
    responses={200: {"model": Redriven, "description": "A dry run"}, **responses.problems(400, 413, 415, 422, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RedriveRequest"}}},
        }
    },
)
async def redrive_many(request: Request) -> Response:
    """Answer 202 once each of them is stored durably and can be seen, or after two seconds, or 200 to a dry run."""
    parts = services(request)
    wanted = await read_model(request, RedriveRequest, parts.limits)
    only = Filter(type_name=wanted.type, queue=wanted.queue, before=wanted.before)
    jobs = await parts.dead_letters.find(only, tenant=tenant(request), limit=wanted.limit)
    done = jobs
    if not wanted.dry_run:
        done = await parts.dead_letters.redrive_all(jobs, rate=wanted.rate)
        await asyncio.gather(*(_seen(parts, job) for job in done))
    told = Redriven(
        dry_run=wanted.dry_run, count=len(done), job_ids=[job.id for job in done], left=len(jobs) - len(done)
    )
    return Response(told.model_dump_json(), status_code=200 if wanted.dry_run else 202, media_type="application/json")


async def _seen(parts: Services, job: Job) -> None:
    """Wait until this run can be seen, so that nobody takes the last one's end for its own."""
    with suppress(JobExpired, StoreUnavailable):
        await parts.following.document(
            job.id,
            tenant=job.tenant,
            enough=lambda stored: stored.seen.run >= job.run,
            within=parts.following.seen_within,
        )


def _told(job: Job) -> DeadLetter:
    return DeadLetter(
        job_id=job.id, type=job.type, queue=job.queue, run=job.run, given_up_at=job.finished_at, error=job.error
    )
