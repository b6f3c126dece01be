"""Streams of events over HTTP: Server-Sent Events and NDJSON.

Source: the HTML standard, §9.2 Server-sent events. A keep-alive comment is not followed by a blank line: some clients
take one for an empty event.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Message, Send

from milepost_gateway import metrics
from milepost_gateway.api import headers, responses
from milepost_gateway.api.authentication import (
    AUTHENTICATED,
    MAX_STREAM_JOBS,
    MAY_LISTEN,
    MAY_READ,
    TOKEN,
    StreamToken,
    caller,
    named_tag,
    tenant,
)
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.api.prefer import StreamFormat, form
from milepost_gateway.api.requests import MalformedRequest, refuse_unknown_parameters
from milepost_gateway.core.job_stream import GAP, StreamEvent, read_cursor
from milepost_gateway.core.tag_stream import OPENED

router = APIRouter(prefix="/v1", tags=["jobs"])

KEEP_ALIVE_INTERVAL = 13.0
"""Seconds after which an idle stream sends a keep-alive; it is checked every two seconds, and 15 are promised."""
SEND_TIMEOUT = 10.0
"""Seconds after which a client that reads nothing is disconnected."""
RETRY_MS = 1_000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "First a snapshot, then the events until the end; intermediate progress may be skipped",
        "content": {form.value: {"schema": {"type": "string"}} for form in StreamFormat},
    },
    204: {"description": "All jobs have ended, and the client has every event: don't reconnect"},
}

STREAM_OPERATION = {
    "security": [*AUTHENTICATED, {"streamToken": []}, {}],
    **headers.read("Last-Event-ID"),
}
Batches = AsyncGenerator[Sequence[StreamEvent], None]


class _EventStream(StreamingResponse):
    """A stream that disconnects a client that does not read."""

    def __init__(
        self,
        body: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        counted: AbstractContextManager[None],
        transport: str,
    ) -> None:
        """Create a stream that is counted, as one of the tenant's and by transport, while it is open."""
        super().__init__(body, media_type=media_type, headers=headers)
        self._open = metrics.listening.labels(transport)
        self._body = body
        self._counted = counted

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT):
                await send(message)

        async with aclosing(self._body):
            with self._counted, self._open.track_inprogress(), suppress(TimeoutError):
                await super().stream_response(bounded)


Jobs = Annotated[Sequence[str], Query(max_length=MAX_STREAM_JOBS, description="A job's id; up to 100 of them")]
StreamTag = Annotated[str | None, Query(min_length=1, max_length=64, description="All jobs with this tag; without job")]
LastEventId = Annotated[str | None, Query(description="As the header Last-Event-ID", max_length=2_000)]


@router.get(
    "/jobs/{job_id}/events",
    dependencies=[MAY_LISTEN],
    summary="Stream a job's events",
    status_code=200,
    response_class=_EventStream,
    responses=RESPONSES | responses.problems(400, 404, 410, 503),
    openapi_extra=STREAM_OPERATION,
)
async def follow_job(request: Request, job_id: str, last_event_id: LastEventId = None) -> Response:
    """Answer the job's events as CloudEvents; `Last-Event-ID` (or `?last_event_id=`) resumes after an event."""
    return await _follow(request, [job_id], last_event_id)


@router.get(
    "/events",
    dependencies=[MAY_LISTEN],
    summary="Stream the events of several jobs, or of all with a tag",
    status_code=200,
    response_class=_EventStream,
    responses=RESPONSES | responses.problems(400, 404, 410, 503),
    openapi_extra=STREAM_OPERATION,
)
async def follow_jobs(
    request: Request,
    job: Jobs = (),
    tag: StreamTag = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Answer the events of these jobs until all have ended, or of all jobs with a tag, without an end.

    The id of an event resumes the stream after it, for all jobs. The stream of a tag begins with an event `opened` and
    a snapshot of each unfinished job; jobs that are submitted later are included. A resumed one may repeat the events
    of a minute.
    """
    refuse_unknown_parameters(request, "job", "tag", "last_event_id", TOKEN)
    if tag is None:
        if not job:
            raise MalformedRequest("the query parameter job or tag is missing")
        return await _follow(request, list(dict.fromkeys(job)), last_event_id)
    if job:
        raise MalformedRequest("the parameters job and tag can't be combined")
    deps = dependencies(request)
    deps.quotas.check_listener(tenant(request))
    if len(request.query_params.getlist("tag")) > 1:
        raise MalformedRequest("only one tag is allowed")
    cursor = request.headers.get("last-event-id") or last_event_id
    return _stream(
        request, deps.tag_stream.events(tag, tenant=tenant(request), cursor=cursor), form(request) or StreamFormat.SSE
    )


@router.post(
    "/events/stream-token",
    status_code=201,
    summary="Get a token for a browser's EventSource, for several jobs or a tag",
    dependencies=[MAY_READ],
    responses=responses.problems(400, 404, 410, 503),
)
async def issue_token_for_jobs(request: Request, job: Jobs = (), tag: StreamTag = None) -> StreamToken:
    """Answer a token that opens the common stream of these jobs, or of a tag, for 15 minutes."""
    if bool(job) == (tag is not None):
        raise MalformedRequest("it needs either the parameter job or the parameter tag")
    if tag is None:
        return await _issue(request, list(dict.fromkeys(job)))
    token, until = dependencies(request).authentication.issue_stream_token(caller(request), [named_tag(tag)])
    return StreamToken(token=token, expires_at=until)


@router.post(
    "/jobs/{job_id}/stream-token",
    status_code=201,
    summary="Get a token for a browser's EventSource or WebSocket",
    dependencies=[MAY_READ],
    responses=responses.problems(400, 404, 410, 503),
)
async def issue_token_for_job(request: Request, job_id: str) -> StreamToken:
    """Answer a token that opens streams of this job only, any number of times within 15 minutes."""
    return await _issue(request, [job_id])


async def _issue(request: Request, job_ids: Sequence[str]) -> StreamToken:
    deps = dependencies(request)
    for job_id in job_ids:
        await deps.statuses.get(job_id, tenant=tenant(request))
    token, until = deps.authentication.issue_stream_token(caller(request), job_ids)
    return StreamToken(token=token, expires_at=until)


async def _follow(request: Request, job_ids: Sequence[str], last_event_id: str | None) -> Response:
    deps = dependencies(request)
    deps.quotas.check_listener(tenant(request))
    since = read_cursor(request.headers.get("last-event-id") or last_event_id, len(job_ids))
    if not await deps.job_stream.has_more(job_ids, tenant=tenant(request), since=since):
        return Response(status_code=204, headers=HEADERS)
    return stream(request, job_ids, form(request) or StreamFormat.SSE, since=since)


def stream(
    request: Request,
    job_ids: Sequence[str],
    how: StreamFormat,
    *,
    since: Sequence[int],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a stream of the events of some jobs."""
    return _stream(request, dependencies(request).job_stream.events(job_ids, since=since), how, headers=headers)


def _stream(
    request: Request, batches: Batches, how: StreamFormat, *, headers: Mapping[str, str] | None = None
) -> Response:
    deps = dependencies(request)
    render = _sse if how is StreamFormat.SSE else _ndjson
    body = render(until_closing(batches, deps.closing))
    counted = deps.quotas.listening(tenant(request))
    return _EventStream(
        body,
        media_type=how.value,
        headers={**HEADERS, **(headers or {})},
        counted=counted,
        transport=how.name.lower(),
    )


async def _sse(batches: Batches) -> AsyncGenerator[bytes, None]:
    opening = b"retry: %d\n" % RETRY_MS
    async with aclosing(batches):
        async for batch in batches:
            for item in batch:
                name, body = item.event.name.encode(), item.event.body
                yield b"%bid: %b\nevent: %b\ndata: %b\n\n" % (opening, item.cursor.encode(), name, body)
                opening = b""
            if not batch:
                yield b": ka\n"


async def _ndjson(batches: Batches) -> AsyncGenerator[bytes, None]:
    async with aclosing(batches):
        async for batch in batches:
            yield (
                b"".join(item.event.body + b"\n" for item in batch if item.event.name not in (GAP, OPENED))
                if batch
                else b"\n"
            )


async def until_closing(batches: Batches, closing: asyncio.Event) -> Batches:
    """Yield the batches until the process is to stop, an empty one as keep-alive, to notice a client that has gone."""
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    async with aclosing(batches):
        async for batch in batches:
            if closing.is_set():
                return
            if batch or loop.time() - sent_at >= KEEP_ALIVE_INTERVAL:
                yield batch
                sent_at = loop.time()
