"""`/v1/jobs`: submit, get, list, count, cancel, retry and delete jobs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument
from milepost_contracts.status.render import cancel_requested, render_cancel
from milepost_contracts.values import WORD, Job, Value
from milepost_gateway.api import headers, prefer, responses
from milepost_gateway.api.authentication import MAY_ADMINISTER, MAY_READ, MAY_SUBMIT, tenant
from milepost_gateway.api.dependencies import Dependencies, dependencies
from milepost_gateway.api.requests import (
    MalformedRequest,
    SubmissionBody,
    fingerprint,
    idempotency_key,
    read_submission,
    refuse_unknown_parameters,
    traceparent,
)
from milepost_gateway.api.routes import streams
from milepost_gateway.core.status import JobFilter
from milepost_gateway.core.submission import TextMoment, submitted
from milepost_gateway.errors import JobExpired, StoreUnavailable
from milepost_gateway.ports.status_store import StoredDocument

router = APIRouter(prefix="/v1", tags=["jobs"])


class JobPage(Value):
    """A page of jobs, newest first."""

    items: list[JobDocument]
    next: str | None
    """URL of the next page; null for the last one."""


_LINKS = {
    name: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
    for name, operation in {
        "get": "get_job",
        "stream": "follow_job",
        "cancel": "cancel_job",
        "result": "get_result",
    }.items()
}
_SUBMISSION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Submission"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["job"],
                    "properties": {
                        "job": {"$ref": "#/components/schemas/Submission"},
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                },
                "encoding": {"job": {"contentType": "application/json"}},
            },
        },
    }
}


@router.post(
    "/jobs",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Submit a job",
    response_model=JobDocument,
    responses={
        200: {
            "model": JobDocument,
            "description": "With Prefer: wait, if the job ended within the wait",
            **headers.sent(*headers.LOCATION, "Content-Location", "Preference-Applied", "ETag"),
            "links": _LINKS,
        },
        202: {**headers.sent(*headers.LOCATION, "Retry-After", "Preference-Applied", "ETag"), "links": _LINKS},
        **responses.problems(400, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=_SUBMISSION_BODY | headers.read("Prefer", "Idempotency-Key"),
)
async def submit_job(request: Request) -> Response:
    """Answer 202 once the job is stored durably; from then on it will run."""
    deps = dependencies(request)
    key, how, max_wait = idempotency_key(request), prefer.form(request), prefer.wait(request)
    if how is not None or max_wait:  # a 429 must come before the job is accepted
        deps.quotas.check_listener(tenant(request))
    async with read_submission(request, deps.limits) as body:
        if key is None:
            job_id, accepted = await _accept(request, body)
        else:
            has_secrets = deps.job_types.may_have_secrets(body.submission.type)
            claiming = deps.idempotency.claim(tenant(request), key, await fingerprint(body), has_secrets=has_secrets)
            async with claiming as claim:
                if claim.repeated:
                    job_id, accepted = claim.job_id, None
                else:
                    job_id, accepted = await _accept(request, body, job_id=claim.job_id)
    if how is not None:
        if accepted is None:
            await deps.job_stream.has_more([job_id], tenant=tenant(request), since=[0])
        return streams.stream(request, [job_id], how, since=[0], headers=responses.locations(request, job_id))
    if max_wait or accepted is None:
        stored = await _wait_for_end(request, job_id, max_wait)
        if max_wait and stored.terminal:
            return responses.done(request, job_id, stored, max_wait)
        if stored.version or accepted is None:
            return responses.accepted(request, job_id, _with_waiting_reason(deps, stored), waited=max_wait)
    return responses.accepted(request, job_id, accepted, waited=max_wait)


async def _accept(request: Request, body: SubmissionBody, *, job_id: str | None = None) -> tuple[str, StoredDocument]:
    deps = dependencies(request)
    command = await deps.acceptance.accept(
        body.submission, tenant=tenant(request), uploads=body.uploads, traceparent=traceparent(request), job_id=job_id
    )
    return command.job.id, StoredDocument.of(command, retention=deps.retention)


async def _wait_for_end(request: Request, job_id: str, max_wait: timedelta) -> StoredDocument:
    """Return the document of an accepted job when it has ended, or as it is after `max_wait`."""
    deps = dependencies(request)
    try:
        return await _await_document(request, job_id, until=_has_ended, max_wait=max_wait)
    except StoreUnavailable:
        return deps.statuses.unprojected(job_id, tenant=tenant(request))


def _has_ended(stored: StoredDocument) -> bool:
    return stored.terminal


async def _await_document(
    request: Request, job_id: str, *, until: Callable[[StoredDocument], bool], max_wait: timedelta
) -> StoredDocument:
    deps = dependencies(request)

    async def is_connected() -> bool:
        return not deps.closing.is_set() and not await request.is_disconnected()

    with deps.quotas.listening(tenant(request)):
        return await deps.job_stream.wait_for(
            job_id, tenant=tenant(request), until=until, max_wait=max_wait, is_connected=is_connected
        )


@router.get(
    "/jobs/counts",
    dependencies=[MAY_READ],
    summary="Count the jobs in each state",
    responses=responses.problems(400, 503),
)
async def count_jobs(request: Request) -> dict[Status, int]:
    """Answer the number of jobs in each status; expired jobs are not counted."""
    refuse_unknown_parameters(request)
    return dict(await dependencies(request).job_index.counts(tenant=tenant(request)))


@router.get(
    "/jobs/{job_id}",
    dependencies=[MAY_READ],
    summary="Get a job",
    response_model=JobDocument,
    responses={
        200: headers.sent("ETag", "Retry-After", "Sunset", "Preference-Applied"),
        303: {
            "description": "With ?redirect=true, if the job has succeeded: the URL of its result",
            **headers.sent("Location"),
        },
        304: {"description": "Unchanged since the version in If-None-Match"},
        **responses.problems(400, 404, 410, 503),
    },
    openapi_extra=headers.read("Prefer", "If-None-Match"),
)
async def get_job(
    request: Request,
    job_id: str,
    redirect: Annotated[bool, Query(description="Answer 303 to the result if the job has succeeded")] = False,
) -> Response:
    """Answer 200 for every accepted job, from the moment of its 202 until it expires or is deleted.

    With `Prefer: wait=N` it waits up to 30 s: for a change since the version in `If-None-Match`, or for the job's end.
    """
    deps = dependencies(request)
    max_wait = prefer.wait(request)
    if max_wait:
        known = responses.known_version(request)
        deps.quotas.check_listener(tenant(request))
        until = _has_ended if known is None else lambda stored: stored.terminal or stored.version != known
        stored = await _await_document(request, job_id, until=until, max_wait=max_wait)
    else:
        stored = await deps.statuses.get(job_id, tenant=tenant(request))
    if redirect and stored.summary.status is Status.SUCCEEDED:
        result = str(request.url_for("get_result", job_id=job_id))
        return Response(status_code=303, headers={**responses.STATUS_HEADERS, "Location": result})
    return responses.status(request, _with_waiting_reason(deps, stored), waited=max_wait)


def _with_waiting_reason(deps: Dependencies, stored: StoredDocument) -> StoredDocument:
    """Add the reason why the job waits, if no live processor serves its queue."""
    summary = stored.summary
    if summary.status is not Status.QUEUED or summary.queue is None or deps.job_types.serves(summary.queue):
        return stored
    return replace(stored, waiting=_no_live_processor(summary.queue))


def _no_live_processor(queue: str) -> bytes:
    detail = f"no live processor serves the queue {queue}"
    return pydantic_core.to_json({"reason": "no-live-processor", "detail": detail})


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Request a job's cancellation",
    response_model=JobDocument,
    responses={
        202: headers.sent(*headers.LOCATION, "Retry-After", "ETag"),
        **responses.problems(400, 404, 409, 410, 503),
    },
)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Answer 202 once the request is stored durably; the document later shows whether and how it took effect."""
    deps = dependencies(request)
    stored, new = await deps.cancellation.request(job_id, tenant=tenant(request), traceparent=traceparent(request))
    if new is not None:
        seen = None
        with suppress(JobExpired, StoreUnavailable):
            seen = await _await_document(
                request, job_id, until=_requested_or_ended, max_wait=deps.job_stream.projection_timeout
            )
        if seen is None or not _requested_or_ended(seen):
            requested = replace(stored, cancel_requested=cancel_requested(render_cancel(new)))
            return responses.accepted(request, job_id, requested, projected=False)
        stored = seen
    return responses.accepted(request, job_id, stored)


def _requested_or_ended(stored: StoredDocument) -> bool:
    return stored.cancel_requested is not None or stored.terminal


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Retry a finished job",
    response_model=JobDocument,
    responses={
        202: headers.sent(*headers.LOCATION, "Retry-After", "ETag"),
        **responses.problems(400, 404, 409, 410, 429, 503),
    },
)
async def retry_job(request: Request, job_id: str) -> Response:
    """Answer 202 once the job's next run is stored durably; it has the same id, params and files."""
    deps = dependencies(request)
    job = await deps.retry.retry(job_id, tenant=tenant(request))
    return await next_run(request, job)


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    dependencies=[MAY_ADMINISTER],
    summary="Delete a finished job",
    response_class=Response,
    responses=responses.problems(400, 404, 409, 410, 503),
)
async def delete_job(request: Request, job_id: str) -> Response:
    """Answer 204 once the deletion is stored durably: the job then answers 410, and its files are removed."""
    deps = dependencies(request)
    await deps.deletion.delete(job_id, tenant=tenant(request), traceparent=traceparent(request))
    deps.orphaned_files.remove_deleted(job_id)
    with suppress(JobExpired, StoreUnavailable):  # 410 means that the deletion is visible
        await _await_document(request, job_id, until=lambda _: False, max_wait=deps.job_stream.projection_timeout)
    return Response(status_code=204)


async def next_run(request: Request, job: Job) -> Response:
    """Answer 202 with the job's next run, if possible once it is visible: a client must not read the last run's end."""
    deps = dependencies(request)

    def projected(stored: StoredDocument) -> bool:
        return stored.summary.run >= job.run

    version = 0
    with suppress(StoreUnavailable):
        stored = await _await_document(request, job.id, until=projected, max_wait=deps.job_stream.projection_timeout)
        if projected(stored):
            return responses.accepted(request, job.id, stored)
        version = stored.version
    event = submitted(job, at=job.run_at or job.created_at)
    accepted = StoredDocument.of(event, version=version, retention=deps.retention)
    return responses.accepted(request, job.id, accepted, projected=False)


@router.get(
    "/jobs",
    dependencies=[MAY_READ],
    summary="List jobs, newest first",
    response_model=JobPage,
    responses=responses.problems(400, 503),
)
async def list_jobs(
    request: Request,
    status: Annotated[Status | None, Query()] = None,
    type: Annotated[str | None, Query(pattern=WORD, max_length=64)] = None,
    queue: Annotated[str | None, Query(pattern=WORD, max_length=64)] = None,
    tag: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    batch: Annotated[str | None, Query(description="A batch's id; not with type", max_length=100)] = None,
    created_after: Annotated[TextMoment | None, Query(description="RFC 3339, with a time zone")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Answer a page, maybe a short one, and the URL of the next; jobs that no tracker has seen are not listed yet."""
    refuse_unknown_parameters(request, "status", "type", "queue", "tag", "batch", "created_after", "limit", "cursor")
    if batch is not None:
        dependencies(request).batches.verify(batch, tenant=tenant(request))
        if type is not None:
            raise MalformedRequest("batch and type can't be combined")
    wanted = JobFilter(type_name=type, status=status, queue=queue, tag=tag, batch=batch, created_after=created_after)
    page = await dependencies(request).statuses.page(wanted, tenant=tenant(request), cursor=cursor, limit=limit)
    headers = dict(responses.STATUS_HEADERS)
    next_url = b"null"
    if page.next_cursor is not None:
        url = str(request.url.include_query_params(cursor=page.next_cursor))
        headers["Link"] = f'<{url}>; rel="next"'
        next_url = pydantic_core.to_json(url)
    body = b'{"items":[' + b",".join(item.body for item in page.items) + b'],"next":' + next_url + b"}"
    return Response(body, media_type="application/json", headers=headers)
