"""`/v1/jobs:batch` and `/v1/batches`: many jobs at once, and how far they are."""

import json
from contextlib import nullcontext
from hashlib import blake2b
from typing import Any

import pydantic_core
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from milepost_contracts.problems import Problem
from milepost_contracts.states import Status
from milepost_gateway.api import problems, responses
from milepost_gateway.api.access import MAY_READ, MAY_SUBMIT, tenant
from milepost_gateway.api.requests import idempotency_key, read_model, traceparent
from milepost_gateway.api.services import services
from milepost_gateway.batches import MOST_JOBS
from milepost_gateway.errors import GatewayError
from milepost_gateway.ports import Submitted

router = APIRouter(prefix="/v1", tags=["batches"])

LOOK_AGAIN = 2
"""Seconds between two looks at a batch that goes on."""


class BatchRequest(BaseModel):
    """Many jobs; each is accepted or refused by itself."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: Submissions, as for one job.
    jobs: list[JsonValue] = Field(min_length=1, max_length=MOST_JOBS)


class BatchItem(BaseModel):
    """What became of one job."""

    #: 202, or the status of its problem.
    status: int
    #: The job that was accepted, or may have been.
    job_id: str | None = None
    url: str | None = None
    problem: Problem | None = None


class HandedOver(BaseModel):
    #: Nothing if not one job was fit to be handed over.
    id: str | None
    url: str | None
    accepted: int
    refused: int
    #: In the order of the request.
    items: list[BatchItem]


class Batch(BaseModel):
    """How far the jobs of a batch are."""

    id: str
    #: How many jobs it has: those that fit. One that the broker did not take (503) is among them: repeat the request.
    size: int
    #: How many jobs are in each state.
    counts: dict[Status, int]
    #: How many jobs no tracker has seen yet, or were not accepted, or are forgotten.
    unseen: int
    #: How many have ended, one way or another.
    ended: int
    #: How many have ended, of a hundred.
    percent: float
    created_at: AwareDatetime
    links: dict[str, str]


@router.post(
    "/jobs:batch",
    status_code=207,
    dependencies=[MAY_SUBMIT],
    summary="Hand many jobs over",
    response_model=HandedOver,
    responses=responses.problems(400, 409, 413, 415, 422, 429),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchRequest"}}},
        }
    },
)
async def submit_batch(request: Request) -> Response:
    """Answer 207 with what became of each, once every job that fits is stored durably, or is known not to be.

    With an `Idempotency-Key` a repeat makes no second job, and hands over what was not taken before.
    """
    parts = services(request)
    key = idempotency_key(request)
    asked = await read_model(request, BatchRequest, parts.limits.for_batches)
    same = blake2b(json.dumps(asked.jobs, sort_keys=True).encode(), digest_size=16).hexdigest()
    turn_of = nullcontext() if key is None else parts.idempotency.turn(tenant(request), f"batch\0{key}", same)
    async with turn_of as turn:
        done = await parts.batches.hand_over(
            asked.jobs, tenant=tenant(request), traceparent=traceparent(request), turn=turn
        )
    items = [await _item(request, outcome) for outcome in done.outcomes]
    accepted = sum(item.problem is None for item in items)
    url = None if done.batch_id is None else str(request.url_for("get_batch", batch_id=done.batch_id))
    told = HandedOver(id=done.batch_id, url=url, accepted=accepted, refused=len(items) - accepted, items=items)
    headers = {} if url is None else {"Location": url, "Operation-Location": url, "Retry-After": str(LOOK_AGAIN)}
    body = told.model_dump() | {"items": [item.model_dump(exclude_none=True) for item in items]}
    return Response(pydantic_core.to_json(body), status_code=207, media_type="application/json", headers=headers)


async def _item(request: Request, outcome: Submitted | GatewayError) -> BatchItem:
    if isinstance(outcome, GatewayError):
        problem = await problems.describe(request, outcome)
        return BatchItem(status=problem.status, job_id=problem.job_id, problem=problem)
    job_id = outcome.job.id
    return BatchItem(status=202, job_id=job_id, url=responses.job_url(request, job_id))


@router.get(
    "/batches/{batch_id}",
    dependencies=[MAY_READ],
    summary="Look at a batch",
    response_model=Batch,
    responses=responses.problems(404, 410, 503),
)
async def get_batch(request: Request, batch_id: str) -> Response:
    """Answer how far its jobs are; it costs the same however many there are."""
    found = await services(request).batches.standing(batch_id, tenant=tenant(request))
    ended = sum(count for status, count in found.counts.items() if status.terminal)
    told: dict[str, Any] = Batch(
        id=batch_id,
        size=found.size,
        counts=found.counts,
        unseen=max(0, found.size - sum(found.counts.values())),
        ended=ended,
        percent=round(100 * ended / found.size, 1),
        created_at=found.created_at,
        links={"self": f"/v1/batches/{batch_id}", "jobs": f"/v1/jobs?batch={batch_id}"},
    ).model_dump()
    headers = {**responses.STATUS_HEADERS}
    if ended < found.size:
        headers["Retry-After"] = str(LOOK_AGAIN)
    return Response(pydantic_core.to_json(told), media_type="application/json", headers=headers)
