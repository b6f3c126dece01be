"""Events over a WebSocket: one text frame for each, and a client that may ask to cancel.

Close codes: 1000 the job has ended, 1001 the gateway stops, 1003 a binary frame, 1008 a frame that is not understood,
or somebody who may not do that, 1013 it can't be done now, 4404 no such job, 4410 its retention time is over.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from milepost_contracts.access import Scope
from milepost_gateway import errors, metrics
from milepost_gateway.access import Caller
from milepost_gateway.api import strict_json
from milepost_gateway.api.access import authenticate_listener, caller
from milepost_gateway.api.services import Services, services
from milepost_gateway.api.streams import SEND_WITHIN, LastEventId, until_closing
from milepost_gateway.following import GAP, read_cursor
from milepost_rabbit.cancelling import end

router = APIRouter(prefix="/v1", tags=["jobs"])

SUBPROTOCOL = "cloudevents.json"
ENDED, GOING_AWAY, UNSUPPORTED, NOT_UNDERSTOOD, TRY_AGAIN = 1000, 1001, 1003, 1008, 1013
UNKNOWN_JOB, EXPIRED_JOB = 4404, 4410
NOT_ALLOWED = NOT_UNDERSTOOD
CODES = (
    (errors.Unauthenticated, NOT_ALLOWED),
    (errors.Forbidden, NOT_ALLOWED),
    (errors.JobUnknown, UNKNOWN_JOB),
    (errors.JobExpired, EXPIRED_JOB),
    (errors.GatewayError, TRY_AGAIN),
)


@router.websocket("/jobs/{job_id}/ws")
async def follow_over_websocket(socket: WebSocket, job_id: str, last_event_id: LastEventId = None) -> None:
    """Tell what happens to the job, until it has ended; `{"type":"cancel"}` asks that it be canceled."""
    parts = services(socket)
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    since = read_cursor(last_event_id, 1)
    try:
        await authenticate_listener(socket)
        reader = caller(socket)
        more = await parts.following.begin([job_id], tenant=reader.tenant, since=since)
        parts.admission.check_listener(reader.tenant)
    except errors.GatewayError as error:
        await socket.close(_code(error), type(error).__doc__)
        return
    tasks = [
        asyncio.create_task(_tell(socket, parts, job_id, since if more else None)),
        asyncio.create_task(_hear(socket, parts, reader, job_id)),
    ]
    try:
        with parts.admission.listening(reader.tenant), metrics.listening.labels("websocket").track_inprogress():
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        code = ended.pop().result()
    except (WebSocketDisconnect, TimeoutError, RuntimeError):
        return  # nobody is there any more
    finally:
        await end(tasks)
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code)


async def _tell(socket: WebSocket, parts: Services, job_id: str, since: Sequence[int] | None) -> int:
    if since is None:
        return ENDED
    steps = until_closing(parts.following.steps([job_id], since=since), parts.closing)
    async with aclosing(steps):
        async for some in steps:
            for step in some:
                if step.event.name != GAP:
                    async with asyncio.timeout(SEND_WITHIN):
                        await socket.send_text(step.event.body.decode())
    return GOING_AWAY if parts.closing.is_set() else ENDED


async def _hear(socket: WebSocket, parts: Services, reader: Caller, job_id: str) -> int:
    """Do what the client asks for; return why there is no going on with it."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", ENDED))
        if message.get("text") is None:
            return UNSUPPORTED
        try:
            asked = strict_json.loads(message["text"].encode())
        except (strict_json.NotStrictJson, UnicodeEncodeError):
            return NOT_UNDERSTOOD
        if asked != {"type": "cancel"}:
            return NOT_UNDERSTOOD
        with suppress(errors.JobAlreadyFinished):  # its end is on its way
            try:
                reader.need(Scope.SUBMIT)
                await parts.cancellation.request(job_id, tenant=reader.tenant, traceparent=None)
            except errors.GatewayError as error:
                return _code(error)


def _code(error: errors.GatewayError) -> int:
    return next(code for kind, code in CODES if isinstance(error, kind))
