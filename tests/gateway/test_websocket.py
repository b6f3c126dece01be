"""Events over a WebSocket, and what a client may say."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from samples import ENDED, RUNNING

from milepost_contracts.access import Scope
from milepost_contracts.events import JobStarted, JobSucceeded
from milepost_gateway.access import Caller
from milepost_gateway.errors import NotAccepted


class Socket:
    """The client's end of a WebSocket, as ASGI has it: no network."""

    def __init__(self):
        self.said = asyncio.Queue()
        self.heard = asyncio.Queue()
        self.subprotocol = None

    async def say(self, **frame):
        await self.said.put({"type": "websocket.receive", **frame})

    async def hear(self):
        """Return the next frame of text, or the code with which the other side closes."""
        message = await asyncio.wait_for(self.heard.get(), 5)
        return message["code"] if message["type"] == "websocket.close" else message["text"]

    async def code(self):
        """Return the code with which the other side closes, whatever it says before."""
        while isinstance(heard := await self.hear(), str):
            pass
        return heard


@pytest.fixture
def connect(app):
    @asynccontextmanager
    async def opened(path, *, query="", subprotocols=()):
        socket = Socket()
        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [],
            "subprotocols": list(subprotocols),
        }
        await socket.said.put({"type": "websocket.connect"})
        serving = asyncio.create_task(app(scope, socket.said.get, socket.heard.put))
        accepted = await asyncio.wait_for(socket.heard.get(), 5)
        socket.subprotocol = accepted["subprotocol"]
        yield socket
        await socket.said.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(serving, 5)

    return opened


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def running(store, job_id):
    store.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})), 4)
    return job_id


@pytest.fixture
def ended(store, job_id):
    store.project(JobSucceeded(job=ENDED.model_copy(update={"id": job_id})), 6)
    return job_id


async def test_each_frame_is_an_event_and_the_end_closes(connect, ended):
    """With the subprotocol of CloudEvents, if the client knows it."""
    async with connect(f"/v1/jobs/{ended}/ws", subprotocols=["x", "cloudevents.json"]) as socket:
        assert "cloudevents.json" == socket.subprotocol
        assert "dev.milepost.job.succeeded.v1" == json.loads(await socket.hear())["type"]
        assert 1000 == await socket.hear()


async def test_who_has_the_end_already_gets_nothing_but_the_end(connect, ended):
    """As a reader that comes back does."""
    async with connect(f"/v1/jobs/{ended}/ws", query="last_event_id=6") as socket:
        assert (None, 1000) == (socket.subprotocol, await socket.hear())


async def test_what_happens_later_is_told_then(connect, store, running):
    """Until the job has ended."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        assert "dev.milepost.job.started.v1" == json.loads(await socket.hear())["type"]
        store.project(JobSucceeded(job=ENDED.model_copy(update={"id": running})), 6)
        assert "dev.milepost.job.succeeded.v1" == json.loads(await socket.hear())["type"]
        assert 1000 == await socket.hear()


async def test_a_client_may_ask_to_cancel(connect, store, running, broker):
    """Its end is told like every other event."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.hear()
        await socket.say(text='{"type":"cancel"}')
        await socket.say(text='{"type":"nonsense"}')
        assert 1008 == await socket.hear()
    assert [running] == [request.subject for request in broker.requests]


@pytest.mark.parametrize("seen_within", [timedelta(seconds=5)])
async def test_a_client_may_ask_to_cancel_before_a_tracker_has_seen_the_job(connect, store, keyring, broker):
    """It is waited for; the conversation goes on."""
    job = RUNNING.model_copy(update={"id": keyring.issue("default")})
    async with connect(f"/v1/jobs/{job.id}/ws") as socket:
        await asyncio.wait_for(store.listened.wait(), 5)
        store.listened.clear()
        await socket.say(text='{"type":"cancel"}')
        await asyncio.wait_for(store.listened.wait(), 5)
        assert [] == broker.requests
        store.project(JobStarted(job=job), 3)
        await socket.hear()
        await socket.say(text='{"type":"nonsense"}')
        assert 1008 == await socket.code()
    assert [job.id] == [request.subject for request in broker.requests]


@pytest.mark.parametrize(
    "frame, code",
    [
        ({"text": "cancel"}, 1008),
        ({"text": "{}"}, 1008),
        ({"text": '{"type":"cancel","all":true}'}, 1008),
        ({"text": '{"type":"cancel","type":"cancel"}'}, 1008),
        ({"text": "[" * 2000}, 1008),
        ({"bytes": b"\0\1"}, 1003),
    ],
)
async def test_what_is_not_understood_ends_the_conversation(connect, running, broker, frame, code):
    """With a code that says why; nothing is done."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.say(**frame)
        assert code == await socket.code()
    assert [] == broker.requests


@pytest.mark.parametrize("name", ["unknown", "0" * 40, "\0", "a\r\nb"])
async def test_an_unknown_job_is_told_by_its_code(connect, name):
    """4404, whatever made it unknown."""
    async with connect(f"/v1/jobs/{name}/ws") as socket:
        assert 4404 == await socket.hear()


async def test_when_redis_is_away_the_client_comes_back_later(connect, store, running):
    """1013."""
    store.away = True
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        assert 1013 == await socket.hear()


async def test_a_cancel_that_can_not_be_stored_is_told(connect, running, broker):
    """The broker is away: the client is not left to believe."""
    broker.error = lambda _: NotAccepted("away")
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.say(text='{"type":"cancel"}')
        assert 1013 == await socket.code()


async def test_a_gateway_that_stops_says_that_it_goes_away(connect, app, running, monkeypatch):
    """1001: there is another one."""
    monkeypatch.setattr("milepost_gateway.following.LOOK_EVERY", timedelta(milliseconds=1))
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.hear()
        app.state.closing.set()
        assert 1001 == await socket.hear()


async def test_a_client_that_leaves_is_no_error(connect, store, running):
    """And nobody listens for it any more."""
    async with connect(f"/v1/jobs/{running}/ws") as socket:
        await socket.hear()
    assert [] == store.listeners


async def test_nobody_opens_one_without_a_key_and_a_token_of_the_job_will_do(connect, app, keyring, store):
    """1008, with a reason. Browsers can set no headers; and who may read may not cancel."""
    app.state.services = replace(app.state.services, access=replace(app.state.services.access, open=False))
    job = RUNNING.model_copy(update={"id": keyring.issue("acme"), "tenant": "acme"})
    store.project(JobStarted(job=job))
    async with connect(f"/v1/jobs/{job.id}/ws") as socket:
        assert 1008 == await socket.code()
    caller = Caller(tenant="acme", scopes=frozenset({Scope.READ}), name="me")
    token, _ = app.state.services.access.issue_stream_token(caller, [job.id])
    async with connect(f"/v1/jobs/{job.id}/ws", query=f"token={token}") as socket:
        assert "started" in await socket.hear()
        await socket.say(text='{"type":"cancel"}')
        assert 1008 == await socket.code()
