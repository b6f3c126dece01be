"""Events as they happen: Server-Sent Events and NDJSON for one job, over HTTP that stays open.

Source: the HTML standard, §9.2 Server-sent events. A comment that keeps a connection open has no blank line behind it:
some readers make an empty event of one.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Message, Send

from milepost_gateway.api import responses
from milepost_gateway.api.preferences import Form, form
from milepost_gateway.api.services import TENANT, Services, services
from milepost_gateway.following import GAP
from milepost_gateway.ports import Happened

router = APIRouter(prefix="/v1", tags=["jobs"])

KEEP_ALIVE = 15.0
"""Seconds after which a stream says that it is there."""
SEND_WITHIN = 10.0
"""Seconds after which a client that reads nothing is left."""
RETRY_MS = 1_000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """A stream that does not wait for ever for its reader."""

    def __init__(self, body: AsyncGenerator[bytes, None], *, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(body, media_type=media_type, headers=headers)
        self._body = body

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_WITHIN):
                await send(message)

        async with aclosing(self._body):
            with suppress(TimeoutError):
                await super().stream_response(bounded)


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=EventStream,
    responses={
        200: {
            "description": "First a snapshot, then every event until the job has ended",
            "content": {form.value: {"schema": {"type": "string"}} for form in Form},
        },
        204: {"description": "The job has ended with the event that the client has: do not come back"},
        **responses.problems(404, 410, 503),
    },
)
async def follow_job(request: Request, job_id: str, last_event_id: str | None = None) -> Response:
    """Answer what happens to the job, as CloudEvents; `Last-Event-ID` (or `?last_event_id=`) resumes behind one."""
    parts = services(request)
    since = _version(request.headers.get("last-event-id") or last_event_id)
    if not await parts.following.begin(job_id, tenant=TENANT, since=since):
        return Response(status_code=204, headers=HEADERS)
    return stream(parts, job_id, form(request) or Form.SSE, since=since)


def stream(
    parts: Services, job_id: str, how: Form, *, since: int = 0, headers: dict[str, str] | None = None
) -> Response:
    """Return a stream of what happens to a job."""
    render = _sse if how is Form.SSE else _ndjson
    body = render(parts.following.steps(job_id, since=since), parts.closing)
    return EventStream(body, media_type=how.value, headers={**HEADERS, **(headers or {})})


def _version(text: str | None) -> int:
    """Read the id of an event; what is none counts as nothing, and a snapshot follows."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 15 else 0  # noqa: PLR2004


Steps = AsyncGenerator[Sequence[Happened], None]


async def _sse(steps: Steps, closing: asyncio.Event) -> AsyncGenerator[bytes, None]:
    opening = b"retry: %d\n" % RETRY_MS
    async with aclosing(_until(steps, closing)) as told:
        async for events in told:
            for event in events:
                yield b"%bid: %d\nevent: %b\ndata: %b\n\n" % (opening, event.version, event.name.encode(), event.body)
                opening = b""
            if not events:
                yield b": ka\n"


async def _ndjson(steps: Steps, closing: asyncio.Event) -> AsyncGenerator[bytes, None]:
    async with aclosing(_until(steps, closing)) as told:
        async for events in told:
            yield b"".join(event.body + b"\n" for event in events if event.name != GAP) if events else b"\n"


async def _until(steps: Steps, closing: asyncio.Event) -> Steps:
    """Yield what there is, and nothing now and then: so it is noticed when the other side is gone."""
    loop = asyncio.get_running_loop()
    said = loop.time()
    async with aclosing(steps):
        async for events in steps:
            if closing.is_set():
                return
            if events or loop.time() - said >= KEEP_ALIVE:
                yield events
                said = loop.time()
