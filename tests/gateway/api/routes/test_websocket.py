"""The WebSocket of a job: its events, and the messages that a client may send."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from samples import ENDED, RUNNING

from milepost_contracts.http.access import Scope
from milepost_contracts.messages.job_events import JobStarted, JobSucceeded
from milepost_gateway.core.authentication import Caller
from milepost_gateway.errors import NotAccepted


class Socket:
    """The client's end of a WebSocket over ASGI, without a network."""

    def __init__(self):
        self.to_app = asyncio.Queue()
        self.from_app = asyncio.Queue()
        self.subprotocol = None
        #: Why the server closed, in words: every close says it.
        self.reason = None

    async def send(self, **frame):
        await self.to_app.put({"type": "websocket.receive", **frame})

    async def receive(self):
        """Return the next text frame, or the code with which the server closes."""
        message = await asyncio.wait_for(self.from_app.get(), 5)
        if message["type"] != "websocket.close":
            return message["text"]
        self.reason = message["reason"]
        assert 0 < len(self.reason.encode()) <= 123, "RFC 6455 allows no more"
        return message["code"]

    async def close_code(self):
        """Return the code with which the server closes, skipping text frames."""
        while isinstance(received := await self.receive(), str):
            pass
        return received


@pytest.fixture
def connect(app):
    @asynccontextmanager
    async def open_socket(path, *, query="", subprotocols=()):
        socket = Socket()
        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [],
            "subprotocols": list(subprotocols),
        }
        await socket.to_app.put({"type": "websocket.connect"})
        serving = asyncio.create_task(app(scope, socket.to_app.get, socket.from_app.put))
        accepted = await asyncio.wait_for(socket.from_app.get(), 5)
        socket.subprotocol = accepted["subprotocol"]
        yield socket
        await socket.to_app.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(serving, 5)

    return open_socket


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def running(view, job_id):
    view.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})), 4)
    return job_id


@pytest.fixture
def ended(view, job_id):
    view.project(JobSucceeded(job=ENDED.model_copy(update={"id": job_id})), 6)
    return job_id


async def test_each_frame_is_an_event_and_the_last_one_closes(connect, ended):
    """With code 1000, and with the CloudEvents subprotocol if the client offers it."""
    async with connect(f"/v1/jobs/{ended}/ws", subprotocols=["x", "cloudevents.json"]) as socket:
        assert "cloudevents.json" == socket.subprotocol
        assert "dev.milepost.job.succeeded.v1" == json.loads(await socket.receive())["type"]
        assert 1000 == await socket.receive()


async def test_a_client_that_has_the_last_event_gets_only_the_close(connect, ended):
    """As when it resumes a stream of an ended job."""
    async with connect(f"/v1/jobs/{ended}/ws", query="last_event_id=6") as socket:
        assert (None, 1000) == (socket.subprotocol, await socket.receive())


async def test_events_are_sent_as_they_happen(connect, view, running):
    """Until the job has ended."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        assert "dev.milepost.job.started.v1" == json.loads(await socket.receive())["type"]
        view.project(JobSucceeded(job=ENDED.model_copy(update={"id": running})), 6)
        assert "dev.milepost.job.succeeded.v1" == json.loads(await socket.receive())["type"]
        assert 1000 == await socket.receive()


async def test_a_client_can_cancel_the_job(connect, running, broker):
    """The cancel request is published; an unknown message closes the socket."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.receive()
        await socket.send(text='{"type":"cancel"}')
        await socket.send(text='{"type":"nonsense"}')
        assert 1008 == await socket.receive()
    assert [running] == [request.subject for request in broker.requests]


@pytest.mark.parametrize("projection_timeout", [timedelta(seconds=5)])
async def test_a_client_can_cancel_before_a_tracker_has_seen_the_job(connect, view, keyring, broker):
    """The request waits for the tracker, and the connection stays open."""
    job = RUNNING.model_copy(update={"id": keyring.issue("default")})
    async with connect(f"/v1/jobs/{job.id}/ws") as socket:
        await asyncio.wait_for(view.listened.wait(), 5)
        view.listened.clear()
        await socket.send(text='{"type":"cancel"}')
        await asyncio.wait_for(view.listened.wait(), 5)
        assert [] == broker.requests
        view.project(JobStarted(job=job), 3)
        await socket.receive()
        await socket.send(text='{"type":"nonsense"}')
        assert 1008 == await socket.close_code()
    assert [job.id] == [request.subject for request in broker.requests]


@pytest.mark.parametrize(
    "frame, code",
    [
        ({"text": "cancel"}, 1008),
        ({"text": "{}"}, 1008),
        ({"text": '{"type":"cancl"}'}, 1008),
        ({"text": '{"type":"cancel","all":true}'}, 1008),
        ({"text": '{"type":"cancel","type":"cancel"}'}, 1008),
        ({"text": "[" * 2000}, 1008),
        ({"bytes": b"\0\1"}, 1003),
    ],
)
async def test_an_invalid_message_closes_the_socket(connect, running, broker, frame, code):
    """The reason says what may be sent; no request is published."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.send(**frame)
        assert code == await socket.close_code()
        assert '{"type":"cancel"}' in socket.reason
    assert [] == broker.requests


@pytest.mark.parametrize("name", ["unknown", "0" * 40, "\0", "a\r\nb"])
async def test_an_unknown_job_closes_the_socket_with_4404(connect, name):
    """Whether the id is malformed or was never issued."""
    async with connect(f"/v1/jobs/{name}/ws") as socket:
        assert 4404 == await socket.receive()


async def test_the_socket_closes_with_1013_while_redis_is_away(connect, view, running):
    """1013: try again later."""
    view.away = True
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        assert 1013 == await socket.receive()


async def test_a_cancel_that_the_broker_does_not_accept_closes_with_1013(connect, running, broker):
    """The client learns that its request was not accepted."""
    broker.error = lambda _: NotAccepted("away")
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.send(text='{"type":"cancel"}')
        assert 1013 == await socket.close_code()


async def test_a_gateway_that_stops_closes_with_1001(connect, app, running, monkeypatch):
    """The client reconnects to another gateway."""
    monkeypatch.setattr("milepost_gateway.core.job_stream.READ_INTERVAL", timedelta(milliseconds=1))
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.receive()
        app.state.closing.set()
        assert 1001 == await socket.receive()


async def test_a_client_that_disconnects_is_no_error(connect, view, running):
    """Its subscription is removed."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.receive()
    assert [] == view.listeners


async def test_a_socket_requires_a_key_or_a_stream_token(connect, app, keyring, view):
    """1008 without either. Browsers can't set headers; a token with read scope can't cancel."""
    app.state.dependencies = replace(
        app.state.dependencies, authentication=replace(app.state.dependencies.authentication, open=False)
    )
    job = RUNNING.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})
    view.project(JobStarted(job=job))
    async with connect(f"/v1/jobs/{job.id}/ws") as socket:
        assert 1008 == await socket.close_code()
    caller = Caller(tenant="acme", scopes=frozenset({Scope.READ}), name="me")
    token, _ = app.state.dependencies.authentication.issue_stream_token(caller, [job.id])
    async with connect(f"/v1/jobs/{job.id}/ws", query=f"token={token}") as socket:
        assert "started" in await socket.receive()
        await socket.send(text='{"type":"cancel"}')
        assert 1008 == await socket.close_code()
        assert "The caller lacks a scope." == socket.reason
