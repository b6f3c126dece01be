"""Events over a WebSocket: one text frame for each. The client may send a request to cancel.

Close codes: 1000 the job has ended, 1001 the gateway stops, 1003 a binary frame, 1008 an invalid frame, or the client
is not authenticated or lacks a scope, 1013 temporarily unavailable, 4404 unknown job, 4410 expired or deleted job. Each
close has a reason in words.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from milepost_contracts.http.access import Scope
from milepost_gateway import errors, metrics
from milepost_gateway.api import strict_json
from milepost_gateway.api.authentication import authenticate_listener, caller
from milepost_gateway.api.dependencies import Dependencies, dependencies
from milepost_gateway.api.routes.streams import SEND_TIMEOUT, LastEventId, until_closing
from milepost_gateway.core.authentication import Caller
from milepost_gateway.core.job_stream import GAP, read_cursor
from milepost_rabbit.cancelling import cancel_and_wait

router = APIRouter(prefix="/v1", tags=["jobs"])

SUBPROTOCOL = "cloudevents.json"
ENDED, GOING_AWAY, UNSUPPORTED, INVALID_FRAME, TRY_AGAIN = 1000, 1001, 1003, 1008, 1013
UNKNOWN_JOB, EXPIRED_JOB = 4404, 4410
NOT_ALLOWED = INVALID_FRAME
Close = tuple[int, str]
"""The code of a close, and its reason: 123 bytes at most (RFC 6455 §5.5)."""
ONLY_CANCEL = 'The only frame that a client may send is {"type":"cancel"}, as text.'
CODES = (
    (errors.Unauthenticated, NOT_ALLOWED),
    (errors.Forbidden, NOT_ALLOWED),
    (errors.JobUnknown, UNKNOWN_JOB),
    (errors.JobExpired, EXPIRED_JOB),
    (errors.GatewayError, TRY_AGAIN),
)


@router.websocket("/jobs/{job_id}/ws")
async def follow_over_websocket(socket: WebSocket, job_id: str, last_event_id: LastEventId = None) -> None:
    """Send the job's events until it has ended; the frame `{"type":"cancel"}` requests its cancellation."""
    deps = dependencies(socket)
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    since = read_cursor(last_event_id, 1)
    try:
        await authenticate_listener(socket)
        reader = caller(socket)
        more = await deps.job_stream.has_more([job_id], tenant=reader.tenant, since=since)
        deps.quotas.check_listener(reader.tenant)
    except errors.GatewayError as error:
        await socket.close(*_close_after(error))
        return
    tasks = [
        asyncio.create_task(_send_events(socket, deps, job_id, since if more else None)),
        asyncio.create_task(_handle_requests(socket, deps, reader, job_id)),
    ]
    try:
        with deps.quotas.listening(reader.tenant), metrics.listening.labels("websocket").track_inprogress():
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        code, reason = ended.pop().result()
    except (WebSocketDisconnect, TimeoutError, RuntimeError):
        return  # the client has gone
    finally:
        await cancel_and_wait(tasks)
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, reason)


async def _send_events(socket: WebSocket, deps: Dependencies, job_id: str, since: Sequence[int] | None) -> Close:
    end = ENDED, "The job has ended."
    if since is None:
        return end
    batches = until_closing(deps.job_stream.events([job_id], since=since), deps.closing)
    async with aclosing(batches):
        async for batch in batches:
            for item in batch:
                if item.event.name != GAP:
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await socket.send_text(item.event.body.decode())
    return (GOING_AWAY, "The gateway stops.") if deps.closing.is_set() else end


async def _handle_requests(socket: WebSocket, deps: Dependencies, reader: Caller, job_id: str) -> Close:
    """Handle the client's requests; return how to close the connection."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", ENDED))
        if message.get("text") is None:
            return UNSUPPORTED, ONLY_CANCEL
        try:
            asked = strict_json.loads(message["text"].encode())
        except (strict_json.NotStrictJson, UnicodeEncodeError):
            return INVALID_FRAME, ONLY_CANCEL
        if asked != {"type": "cancel"}:
            return INVALID_FRAME, ONLY_CANCEL
        with suppress(errors.JobAlreadyFinished):  # its end is on its way
            try:
                reader.need(Scope.SUBMIT)
                await deps.cancellation.request(job_id, tenant=reader.tenant, traceparent=None)
            except errors.GatewayError as error:
                return _close_after(error)


def _close_after(error: errors.GatewayError) -> Close:
    code = next(code for kind, code in CODES if isinstance(error, kind))
    return code, (type(error).__doc__ or "").partition("\n")[0]
