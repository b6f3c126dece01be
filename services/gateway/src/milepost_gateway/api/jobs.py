"""`/v1/jobs`: submit, look at one, list."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import pydantic_core
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from milepost_contracts import document
from milepost_contracts.document import JobDocument
from milepost_contracts.glance import with_waiting
from milepost_contracts.states import Status
from milepost_contracts.values import WORD, Job
from milepost_gateway.api import preferences, responses, streams
from milepost_gateway.api.access import MAY_ADMINISTER, MAY_READ, MAY_SUBMIT, tenant
from milepost_gateway.api.requests import (
    MalformedRequest,
    SubmissionBody,
    fingerprint,
    idempotency_key,
    read_submission,
    refuse_unknown_parameters,
    traceparent,
)
from milepost_gateway.api.services import Services, services
from milepost_gateway.errors import JobExpired, StoreUnavailable
from milepost_gateway.ports import Stored
from milepost_gateway.status import Wanted
from milepost_gateway.submission import TextMoment, submitted

router = APIRouter(prefix="/v1", tags=["jobs"])


class JobPage(BaseModel):
    """Some jobs, newest first."""

    items: list[JobDocument]
    #: Where the next page is; nothing at the end.
    next: str | None


_SUBMISSION_BODY = {
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
    summary="Hand a job over",
    response_model=JobDocument,
    responses={
        200: {"model": JobDocument, "description": "With Prefer: wait, of a job that has ended in time"},
        **responses.problems(400, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=_SUBMISSION_BODY,
)
async def submit_job(request: Request) -> Response:
    """Answer 202 once the job is stored durably; from then on it will run."""
    parts = services(request)
    key, how, within = idempotency_key(request), preferences.form(request), preferences.wait(request)
    if how is not None or within:  # refused before anything is accepted, or not at all
        parts.admission.check_listener(tenant(request))
    async with read_submission(request, parts.limits) as body:
        if key is None:
            job_id, document_then = await _accept(request, body)
        else:
            async with parts.idempotency.turn(tenant(request), key, await fingerprint(body)) as turn:
                if turn.repeated:
                    job_id, document_then = turn.job_id, None
                else:
                    job_id, document_then = await _accept(request, body, job_id=turn.job_id)
    if how is not None:
        if document_then is None:
            await parts.following.begin([job_id], tenant=tenant(request), since=[0])
        return streams.stream(request, [job_id], how, since=[0], headers=responses.locations(request, job_id))
    if within or document_then is None:
        stored = await _seen(request, job_id, within)
        if within and stored.terminal:
            return responses.done(request, job_id, stored, within)
        if stored.version or document_then is None:
            return responses.accepted(request, job_id, stored.body, version=stored.version, waited=within)
    return responses.accepted(request, job_id, document_then, waited=within)


async def _accept(request: Request, body: SubmissionBody, *, job_id: str | None = None) -> tuple[str, bytes]:
    parts = services(request)
    command = await parts.acceptance.accept(
        body.submission, tenant=tenant(request), uploads=body.uploads, traceparent=traceparent(request), job_id=job_id
    )
    return command.job.id, document.accepted(command, retention=parts.retention)


async def _seen(request: Request, job_id: str, within: timedelta) -> Stored:
    """Return a job that was accepted, at its end if it comes in time, or as far as it has come, or can be seen."""
    parts = services(request)
    try:
        return await _followed(request, job_id, enough=_has_ended, within=within)
    except StoreUnavailable:
        return parts.statuses.unprojected(job_id, tenant=tenant(request))


def _has_ended(stored: Stored) -> bool:
    return stored.terminal


async def _followed(request: Request, job_id: str, *, enough: Callable[[Stored], bool], within: timedelta) -> Stored:
    parts = services(request)

    async def present() -> bool:
        return not parts.closing.is_set() and not await request.is_disconnected()

    with parts.admission.listening(tenant(request)):
        return await parts.following.document(
            job_id, tenant=tenant(request), enough=enough, within=within, present=present
        )


@router.get(
    "/jobs/counts",
    dependencies=[MAY_READ],
    summary="Count the jobs in each state",
    responses=responses.problems(400, 503),
)
async def count_jobs(request: Request) -> dict[Status, int]:
    """Answer how many jobs there are, live or remembered, by status."""
    refuse_unknown_parameters(request)
    return dict(await services(request).store.counts(tenant=tenant(request)))


@router.get(
    "/jobs/{job_id}",
    dependencies=[MAY_READ],
    summary="Look at a job",
    response_model=JobDocument,
    responses={
        303: {"description": "With ?redirect=true, of a job that has succeeded: where its result is"},
        304: {"description": "Nothing new since the version in If-None-Match"},
        **responses.problems(404, 410, 503),
    },
)
async def get_job(
    request: Request,
    job_id: str,
    redirect: Annotated[bool, Query(description="Answer 303 to the result, once there is one")] = False,
) -> Response:
    """Answer 200 for every job that was accepted, from the very moment of its 202.

    With `Prefer: wait=N` it waits up to 30 s: for a change since the version in `If-None-Match`, or for the job's end.
    """
    parts = services(request)
    within = preferences.wait(request)
    if within:
        known = responses.known_version(request)
        parts.admission.check_listener(tenant(request))
        enough = _has_ended if known is None else lambda stored: stored.terminal or stored.version != known
        stored = await _followed(request, job_id, enough=enough, within=within)
    else:
        stored = await parts.statuses.poll(job_id, tenant=tenant(request))
    if redirect and stored.terminal and stored.seen.status is Status.SUCCEEDED:
        result = str(request.url_for("get_result", job_id=job_id))
        return Response(status_code=303, headers={**responses.STATUS_HEADERS, "Location": result})
    return responses.status(request, _with_reason(parts, stored), waited=within)


def _with_reason(parts: Services, stored: Stored) -> Stored:
    """Say why the job waits, if that is known."""
    if stored.terminal:
        return stored
    seen = stored.seen
    if seen.status is not Status.QUEUED or seen.queue is None or parts.catalogue.serves(seen.queue):
        return stored
    return replace(stored, body=with_waiting(stored.body, _nobody_serves(seen.queue)), waits_in_vain=True)


def _nobody_serves(queue: str) -> bytes:
    detail = f"no live processor serves the queue {queue}"
    return pydantic_core.to_json({"reason": "no-live-processor", "detail": detail})


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Ask that a job be canceled",
    response_model=JobDocument,
    responses=responses.problems(404, 409, 410, 503),
)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Answer 202 once the request is stored durably; the document says later whether it came in time, and how."""
    parts = services(request)
    stored, new = await parts.cancellation.request(job_id, tenant=tenant(request), traceparent=traceparent(request))
    if new is not None:
        seen = None
        with suppress(JobExpired, StoreUnavailable):
            seen = await _followed(request, job_id, enough=_takes_no_request, within=parts.following.seen_within)
        if seen is None or not _takes_no_request(seen):
            return responses.accepted(request, job_id, document.with_cancel_request(stored.body, new))
        stored = seen
    return responses.accepted(request, job_id, stored.body, version=stored.version)


def _takes_no_request(stored: Stored) -> bool:
    return stored.cancel_requested or stored.terminal


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Run a finished job again",
    response_model=JobDocument,
    responses=responses.problems(404, 409, 410, 503),
)
async def retry_job(request: Request, job_id: str) -> Response:
    """Answer 202 once the job's next run is stored durably: the same id, params and files."""
    parts = services(request)
    job = await parts.reruns.run_again(job_id, tenant=tenant(request))
    return await next_run(request, job)


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    dependencies=[MAY_ADMINISTER],
    summary="Forget a finished job",
    response_class=Response,
    responses=responses.problems(404, 409, 410, 503),
)
async def forget_job(request: Request, job_id: str) -> Response:
    """Answer 204 once it is a durable fact that the job is forgotten, with its files: 410 from then on."""
    parts = services(request)
    await parts.forgetting.forget(job_id, tenant=tenant(request), traceparent=traceparent(request))
    parts.leftovers.look_soon(job_id)
    with suppress(JobExpired, StoreUnavailable):  # seen to be so, or it will be
        await _followed(request, job_id, enough=lambda _: False, within=parts.following.seen_within)
    return Response(status_code=204)


async def next_run(request: Request, job: Job) -> Response:
    """Answer 202 with the job's next run; once it can be seen, so that nobody takes the last one's end for its own."""
    parts = services(request)
    try:
        stored = await _followed(
            request, job.id, enough=lambda stored: stored.seen.run >= job.run, within=parts.following.seen_within
        )
    except StoreUnavailable:
        stored = Stored(0, b"")
    if stored.body and stored.seen.run >= job.run:
        return responses.accepted(request, job.id, stored.body, version=stored.version)
    event = submitted(job, at=job.run_at or job.created_at)
    body = document.render(event, cancel=None, version=stored.version, retention=parts.retention)
    return responses.accepted(request, job.id, body)


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
    batch: Annotated[str | None, Query(description="A batch's id; without type", max_length=100)] = None,
    created_after: Annotated[TextMoment | None, Query(description="RFC 3339, with a time zone")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Answer a page, maybe a short one, and where the next one is; jobs that no tracker has seen are not listed yet."""
    refuse_unknown_parameters(request, "status", "type", "queue", "tag", "batch", "created_after", "limit", "cursor")
    if batch is not None:
        services(request).batches.verify(batch, tenant=tenant(request))
        if type is not None:
            raise MalformedRequest("the jobs of a batch are not listed by type too")
    wanted = Wanted(type_name=type, status=status, queue=queue, tag=tag, batch=batch, created_after=created_after)
    page = await services(request).statuses.page(wanted, tenant=tenant(request), cursor=cursor, limit=limit)
    headers = dict(responses.STATUS_HEADERS)
    next_url = "null"
    if page.next_cursor is not None:
        url = str(request.url.include_query_params(cursor=page.next_cursor))
        headers["Link"] = f'<{url}>; rel="next"'
        next_url = document.quoted(url)
    body = b'{"items":[' + b",".join(item.body for item in page.items) + b'],"next":' + next_url.encode() + b"}"
    return Response(body, media_type="application/json", headers=headers)
