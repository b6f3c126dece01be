"""`/v1/dead-letters`: jobs that the broker dead-lettered, and their redrive."""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from milepost_contracts.http.dead_letters import DeadLetter, DeadLetterPage, Unreadable
from milepost_contracts.status.document import JobDocument
from milepost_contracts.values import WORD, Job, Value
from milepost_gateway.api import headers, responses
from milepost_gateway.api.authentication import MAY_ADMINISTER, tenant
from milepost_gateway.api.dependencies import Dependencies, dependencies
from milepost_gateway.api.requests import read_model, refuse_unknown_parameters
from milepost_gateway.api.routes.jobs import next_run
from milepost_gateway.core.authentication import OPEN_TENANT
from milepost_gateway.core.dead_letters import DeadLetterFilter
from milepost_gateway.core.submission import TextMoment
from milepost_gateway.errors import JobExpired, StoreUnavailable

router = APIRouter(prefix="/v1", tags=["dead letters"], dependencies=[MAY_ADMINISTER])

MAX_REDRIVES = 1_000


class RedriveRequest(Value):
    """Which dead letters to redrive, and how fast."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"type": "count", "dry_run": True}]}
    )

    type: str | None = Field(default=None, pattern=WORD, max_length=64)
    queue: str | None = Field(default=None, pattern=WORD, max_length=64)
    before: TextMoment | None = None
    """Only those that were dead-lettered before this time."""
    limit: int = Field(default=100, ge=1, le=MAX_REDRIVES)
    rate: float | None = Field(default=None, ge=0.001, le=10_000)
    """Maximum number per second: the broker delays the later ones. Without it all start at once."""
    dry_run: bool = False
    """Redrive nothing; only answer which jobs would be redriven."""


class Redriven(Value):
    dry_run: bool
    count: int
    job_ids: list[str]
    left: int = 0
    """Number of selected jobs that the broker or their queue did not take. Repeat the request to redrive them."""


_Word = Annotated[str | None, Query(pattern=WORD, max_length=64)]


@router.get(
    "/dead-letters",
    summary="List dead letters, newest first",
    responses=responses.problems(400, 503),
)
async def list_dead_letters(
    request: Request, type: _Word = None, queue: _Word = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> DeadLetterPage:
    """Answer the dead-lettered jobs and, to admins of the tenant `default`, the messages that could not be parsed."""
    refuse_unknown_parameters(request, "type", "queue", "limit")
    found = dependencies(request).dead_letters
    jobs = await found.find(DeadLetterFilter(type_name=type, queue=queue), tenant=tenant(request), limit=limit)
    bodies = await found.unreadable(limit) if tenant(request) == OPEN_TENANT else ()
    unreadable = [Unreadable.model_validate_json(body) for body in bodies]
    return DeadLetterPage(items=tuple(_dead_letter(job) for job in jobs), unreadable=tuple(unreadable))


@router.post(
    "/dead-letters/{job_id}/redrive",
    status_code=202,
    summary="Redrive a dead letter",
    response_model=JobDocument,
    responses={202: headers.sent(*headers.LOCATION, "Retry-After", "ETag"), **responses.problems(400, 404, 409, 503)},
)
async def redrive(request: Request, job_id: str) -> Response:
    """Answer 202 once the job's next run is stored durably."""
    deps = dependencies(request)
    job = await deps.dead_letters.redrive(await deps.dead_letters.get(job_id, tenant=tenant(request)))
    return await next_run(request, job)


@router.post(
    "/dead-letters:redrive",
    status_code=202,
    summary="Redrive many dead letters",
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
    """Answer 202 once all are stored durably and visible (or not within two seconds), or 200 to a dry run."""
    deps = dependencies(request)
    wanted = await read_model(request, RedriveRequest, deps.limits)
    only = DeadLetterFilter(type_name=wanted.type, queue=wanted.queue, before=wanted.before)
    jobs = await deps.dead_letters.find(only, tenant=tenant(request), limit=wanted.limit)
    done = jobs
    if not wanted.dry_run:
        done = await deps.dead_letters.redrive_all(jobs, rate=wanted.rate)
        await asyncio.gather(*(_wait_until_visible(deps, job) for job in done))
    redriven = Redriven(
        dry_run=wanted.dry_run, count=len(done), job_ids=[job.id for job in done], left=len(jobs) - len(done)
    )
    return Response(
        redriven.model_dump_json(), status_code=200 if wanted.dry_run else 202, media_type="application/json"
    )


async def _wait_until_visible(deps: Dependencies, job: Job) -> None:
    """Wait until this run is visible, so that no client takes the end of the last run for its own."""
    with suppress(JobExpired, StoreUnavailable):
        await deps.job_stream.wait_for(
            job.id,
            tenant=job.tenant,
            until=lambda stored: stored.summary.run >= job.run,
            max_wait=deps.job_stream.projection_timeout,
        )


def _dead_letter(job: Job) -> DeadLetter:
    return DeadLetter(
        job_id=job.id, type=job.type, queue=job.queue, run=job.run, given_up_at=job.finished_at, error=job.error
    )
