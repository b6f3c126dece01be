"""Events as they happen: Server-Sent Events and NDJSON, over HTTP that stays open.

Source: the HTML standard, §9.2 Server-sent events. A comment that keeps a connection open has no blank line behind it:
some readers make an empty event of one.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Message, Send

from milepost_gateway import metrics
from milepost_gateway.api import responses
from milepost_gateway.api.access import MAY_LISTEN, MAY_READ, MOST_JOBS, TOKEN, StreamToken, caller, named_tag, tenant
from milepost_gateway.api.preferences import Form, form
from milepost_gateway.api.requests import MalformedRequest, refuse_unknown_parameters
from milepost_gateway.api.services import services
from milepost_gateway.following import GAP, Step, read_cursor
from milepost_gateway.tailing import OPENED

router = APIRouter(prefix="/v1", tags=["jobs"])

KEEP_ALIVE = 13.0
"""Seconds after which a stream says that it is there; whoever waits looks up every two, and 15 are promised."""
SEND_WITHIN = 10.0
"""Seconds after which a client that reads nothing is left."""
RETRY_MS = 1_000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "First a snapshot, then every event until the end",
        "content": {form.value: {"schema": {"type": "string"}} for form in Form},
    },
    204: {"description": "It has ended with the event that the client has: do not come back"},
}

Steps = AsyncGenerator[Sequence[Step], None]


class EventStream(StreamingResponse):
    """A stream that does not wait for ever for its reader."""

    def __init__(
        self,
        body: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        counted: AbstractContextManager[None],
        transport: str,
    ) -> None:
        """Prepare; the stream counts as one while it lasts."""
        super().__init__(body, media_type=media_type, headers=headers)
        self._open = metrics.listening.labels(transport)
        self._body = body
        self._counted = counted

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_WITHIN):
                await send(message)

        async with aclosing(self._body):
            with self._counted, self._open.track_inprogress(), suppress(TimeoutError):
                await super().stream_response(bounded)


Jobs = Annotated[Sequence[str], Query(max_length=MOST_JOBS, description="A job's id; up to 100 of them")]
OfTag = Annotated[str | None, Query(min_length=1, max_length=64, description="All jobs with this tag; without job")]
LastEventId = Annotated[str | None, Query(description="As the header Last-Event-ID", max_length=2_000)]


@router.get(
    "/jobs/{job_id}/events",
    dependencies=[MAY_LISTEN],
    summary="Follow a job",
    status_code=200,
    response_class=EventStream,
    responses=ANSWERS | responses.problems(404, 410, 503),
)
async def follow_job(request: Request, job_id: str, last_event_id: LastEventId = None) -> Response:
    """Answer what happens to the job, as CloudEvents; `Last-Event-ID` (or `?last_event_id=`) resumes behind one."""
    return await _follow(request, [job_id], last_event_id)


@router.get(
    "/events",
    dependencies=[MAY_LISTEN],
    summary="Follow several jobs at once, or all with a tag",
    status_code=200,
    response_class=EventStream,
    responses=ANSWERS | responses.problems(400, 404, 410, 503),
)
async def follow_jobs(
    request: Request,
    job: Jobs = (),
    tag: OfTag = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Answer what happens to these jobs, until all have ended, or to all that have a tag, for as long as one listens.

    The id of an event resumes behind it in all of them. Of a tag comes first a snapshot of each of its jobs that has
    not ended, after an event `opened`; jobs that are handed over later come by themselves. Who resumes may be told a
    minute again.
    """
    refuse_unknown_parameters(request, "job", "tag", "last_event_id", TOKEN)
    if tag is None:
        if not job:
            raise MalformedRequest("it names no job and no tag")
        return await _follow(request, list(dict.fromkeys(job)), last_event_id)
    if job:
        raise MalformedRequest("it names jobs and a tag: follow either")
    parts = services(request)
    parts.admission.check_listener(tenant(request))
    if len(request.query_params.getlist("tag")) > 1:
        raise MalformedRequest("it names more than one tag")
    cursor = request.headers.get("last-event-id") or last_event_id
    return _stream(request, parts.tailing.steps(tag, tenant=tenant(request), cursor=cursor), form(request) or Form.SSE)


@router.post(
    "/events/stream-token",
    status_code=201,
    summary="Get a token for a browser's EventSource of several jobs, or of a tag",
    dependencies=[MAY_READ],
    responses=responses.problems(400, 404, 410, 503),
)
async def issue_token_for_jobs(request: Request, job: Jobs = (), tag: OfTag = None) -> StreamToken:
    """Answer a token that opens the stream of these jobs together, or of a tag, for a quarter of an hour."""
    if bool(job) == (tag is not None):
        raise MalformedRequest("it names no job and no tag, or both")
    if tag is None:
        return await _issue(request, list(dict.fromkeys(job)))
    token, until = services(request).access.issue_stream_token(caller(request), [named_tag(tag)])
    return StreamToken(token=token, expires_at=until)


@router.post(
    "/jobs/{job_id}/stream-token",
    status_code=201,
    summary="Get a token for a browser's EventSource or WebSocket",
    dependencies=[MAY_READ],
    responses=responses.problems(404, 410, 503),
)
async def issue_token_for_job(request: Request, job_id: str) -> StreamToken:
    """Answer a token that opens streams of this job alone, as often as one likes for a quarter of an hour."""
    return await _issue(request, [job_id])


async def _issue(request: Request, job_ids: Sequence[str]) -> StreamToken:
    parts = services(request)
    for job_id in job_ids:
        await parts.statuses.get(job_id, tenant=tenant(request))
    token, until = parts.access.issue_stream_token(caller(request), job_ids)
    return StreamToken(token=token, expires_at=until)


async def _follow(request: Request, job_ids: Sequence[str], last_event_id: str | None) -> Response:
    parts = services(request)
    parts.admission.check_listener(tenant(request))
    since = read_cursor(request.headers.get("last-event-id") or last_event_id, len(job_ids))
    if not await parts.following.begin(job_ids, tenant=tenant(request), since=since):
        return Response(status_code=204, headers=HEADERS)
    return stream(request, job_ids, form(request) or Form.SSE, since=since)


def stream(
    request: Request,
    job_ids: Sequence[str],
    how: Form,
    *,
    since: Sequence[int],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a stream of what happens to some jobs."""
    return _stream(request, services(request).following.steps(job_ids, since=since), how, headers=headers)


def _stream(request: Request, steps: Steps, how: Form, *, headers: Mapping[str, str] | None = None) -> Response:
    parts = services(request)
    render = _sse if how is Form.SSE else _ndjson
    body = render(until_closing(steps, parts.closing))
    counted = parts.admission.listening(tenant(request))
    return EventStream(
        body,
        media_type=how.value,
        headers={**HEADERS, **(headers or {})},
        counted=counted,
        transport=how.name.lower(),
    )


async def _sse(steps: Steps) -> AsyncGenerator[bytes, None]:
    opening = b"retry: %d\n" % RETRY_MS
    async with aclosing(steps):
        async for some in steps:
            for step in some:
                name, body = step.event.name.encode(), step.event.body
                yield b"%bid: %b\nevent: %b\ndata: %b\n\n" % (opening, step.cursor.encode(), name, body)
                opening = b""
            if not some:
                yield b": ka\n"


async def _ndjson(steps: Steps) -> AsyncGenerator[bytes, None]:
    async with aclosing(steps):
        async for some in steps:
            yield (
                b"".join(step.event.body + b"\n" for step in some if step.event.name not in (GAP, OPENED))
                if some
                else b"\n"
            )


async def until_closing(steps: Steps, closing: asyncio.Event) -> Steps:
    """Yield what there is, and nothing now and then, so that it is noticed when the other side is gone."""
    loop = asyncio.get_running_loop()
    said = loop.time()
    async with aclosing(steps):
        async for some in steps:
            if closing.is_set():
                return
            if some or loop.time() - said >= KEEP_ALIVE:
                yield some
                said = loop.time()
