"""`/v1/jobs:batch` and `/v1/batches`: many jobs in one request, and their progress."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from hashlib import blake2b
from typing import Any

import pydantic_core
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, SkipValidation

from milepost_contracts.http.problems import Problem
from milepost_contracts.states import Status
from milepost_contracts.values import Value
from milepost_gateway.api import headers, problems, responses
from milepost_gateway.api.authentication import MAY_READ, MAY_SUBMIT, tenant
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.api.requests import idempotency_key, read_batch, traceparent
from milepost_gateway.core.batches import MAX_BATCH_JOBS
from milepost_gateway.core.submission import EXAMPLE
from milepost_gateway.errors import GatewayError

router = APIRouter(prefix="/v1", tags=["batches"])

POLL_INTERVAL = 2
"""Seconds between two polls of an unfinished batch: its `Retry-After`."""


class BatchRequest(Value):
    """Many jobs; each is accepted or refused separately."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"jobs": [EXAMPLE, EXAMPLE]}]}
    )

    jobs: list[SkipValidation[JsonValue]] = Field(min_length=1, max_length=MAX_BATCH_JOBS)
    """Submissions, as for one job."""


class BatchItem(Value):
    """The outcome of one job."""

    status: int
    """202, or the status of its problem."""
    job_id: str | None = None
    """The job that was accepted, or may have been."""
    url: str | None = None
    problem: Problem | None = None


class SubmittedBatch(Value):
    id: str | None
    """Null if no job was valid."""
    url: str | None
    accepted: int
    refused: int
    items: list[BatchItem]
    """In the order of the request."""


class Batch(Value):
    """The progress of a batch."""

    id: str
    size: int
    """Number of valid jobs. Includes those that the broker did not accept (503): repeat the request for them."""
    counts: dict[Status, int]
    """Number of jobs in each status; deleted ones are counted as they ended."""
    unseen: int
    """Number of jobs that no tracker has seen yet, or that were not accepted."""
    expired: int
    """Number of jobs whose documents have expired. Jobs that were not accepted are counted here after the retention."""
    ended: int
    """Number of jobs that have ended, whatever their status, including the expired ones; decreases only when one is
    retried."""
    percent: float
    """Percentage of jobs that have ended."""
    created_at: AwareDatetime
    links: dict[str, str]


@router.post(
    "/jobs:batch",
    status_code=207,
    dependencies=[MAY_SUBMIT],
    summary="Submit many jobs",
    response_model=SubmittedBatch,
    responses={
        207: headers.sent("Location", "Operation-Location", "Retry-After"),
        **responses.problems(400, 409, 413, 415, 422, 429),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchRequest"}}},
        },
        **headers.read("Idempotency-Key"),
    },
)
async def submit_batch(request: Request) -> Response:
    """Answer 207 with the outcome of each job: an accepted one is stored durably.

    With an `Idempotency-Key` a repeat submits no job twice, only those that were not accepted before.
    """
    deps = dependencies(request)
    key = idempotency_key(request)
    asked = await read_batch(request, BatchRequest, deps.limits)
    has_secrets = any(deps.job_types.may_have_secrets(job.get("type")) for job in asked.jobs if isinstance(job, dict))
    claiming = (
        nullcontext()
        if key is None
        else deps.idempotency.claim(
            tenant(request), f"batch\0{key}", await _fingerprint(asked.jobs), has_secrets=has_secrets
        )
    )
    async with claiming as claim:
        done = await deps.batches.submit(
            asked.jobs, tenant=tenant(request), traceparent=traceparent(request), claim=claim
        )
    items, accepted = [], 0
    while done.outcomes:
        item = await _item(request, done.outcomes.popleft())
        items.append(item.model_dump_json(exclude_none=True).encode())
        accepted += item.problem is None
        await asyncio.sleep(0)  # let other requests run
    url = None if done.batch_id is None else str(request.url_for("get_batch", batch_id=done.batch_id))
    submitted = SubmittedBatch(id=done.batch_id, url=url, accepted=accepted, refused=len(items) - accepted, items=[])
    headers = {} if url is None else {"Location": url, "Operation-Location": url, "Retry-After": str(POLL_INTERVAL)}
    body = submitted.model_dump_json(exclude={"items"}).encode()[:-1] + b',"items":[' + b",".join(items) + b"]}"
    return Response(body, status_code=207, media_type="application/json", headers=headers)


async def _fingerprint(jobs: Sequence[JsonValue]) -> str:
    """Return a digest of the jobs. Large batches let other requests run."""
    digest = blake2b(digest_size=16)
    for number, job in enumerate(jobs):
        digest.update((", " if number else "[").encode() + json.dumps(job, sort_keys=True).encode())
        await asyncio.sleep(0)
    digest.update(b"]")
    return digest.hexdigest()


async def _item(request: Request, outcome: str | GatewayError) -> BatchItem:
    if isinstance(outcome, GatewayError):
        problem = await problems.describe(request, outcome)
        return BatchItem(status=problem.status, job_id=problem.job_id, problem=problem)
    return BatchItem(status=202, job_id=outcome, url=responses.job_url(request, outcome))


@router.get(
    "/batches/{batch_id}",
    dependencies=[MAY_READ],
    summary="Get a batch's progress",
    response_model=Batch,
    responses={200: headers.sent("Retry-After"), **responses.problems(400, 404, 410, 503)},
)
async def get_batch(request: Request, batch_id: str) -> Response:
    """Answer the number of its jobs in each status; the cost does not depend on their number."""
    found = await dependencies(request).batches.state(batch_id, tenant=tenant(request))
    batch: dict[str, Any] = Batch(
        id=batch_id,
        size=found.size,
        counts=found.counts,
        unseen=found.unseen,
        expired=found.expired,
        ended=found.ended,
        percent=round(100 * found.ended / found.size, 1),
        created_at=found.created_at,
        links={"self": f"/v1/batches/{batch_id}", "jobs": f"/v1/jobs?batch={batch_id}"},
    ).model_dump()
    headers = {**responses.STATUS_HEADERS}
    if found.ended < found.size:
        headers["Retry-After"] = str(POLL_INTERVAL)
    return Response(pydantic_core.to_json(batch), media_type="application/json", headers=headers)
