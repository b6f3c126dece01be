"""The gateway's HTTP server with readers that do not read."""

import asyncio
import socket
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
import uvicorn
from waiting import wait_until

from milepost_gateway import server as module
from milepost_gateway.server import ImpatientProtocol, JoinedWrites, Server

ENOUGH = 64 * 1024 * 1024
"""More than any buffer between two ends takes."""


@contextmanager
def served(app):
    """Serve an app, as the gateway does; return the server and its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, http=ImpatientProtocol)
    serving = Server(config, asyncio.Event())
    thread = threading.Thread(target=serving.listen_and_run)
    thread.start()
    try:
        wait_until(lambda: serving.started, within=10, what="it serves")
        yield serving, serving.servers[0].sockets[0].getsockname()
    finally:
        serving.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_a_client_that_never_reads_is_left(monkeypatch):
    """Its connection does not stay for ever, though a close would wait for it to read what was sent."""
    monkeypatch.setattr(module, "READ_WITHIN", timedelta(seconds=1))

    asked = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        asked.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with asyncio.timeout(0.5):
            for _ in range(ENOUGH // 65_536):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

    with served(app) as (serving, address), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(address)
        client.sendall(WHOLE)
        assert asked.wait(5)
        wait_until(lambda: not serving.server_state.connections, within=20, what="it is left")


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_beginning():
    """Headers and body may be two writes; Nagle would hold the second back, for 40 ms as clients acknowledge."""
    with served(hello) as (serving, address), socket.create_connection(address):
        (connection,) = wait_until(lambda: serving.server_state.connections, within=5, what="it is connected")
        assert isinstance(connection.transport, JoinedWrites)
        ours = connection.transport.get_extra_info("socket")
        assert 1 == ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Transport(asyncio.Transport):
    """Notes what is written to it."""

    def __init__(self):
        super().__init__()
        self.written = []
        self.closed = False

    def write(self, data):
        self.written.append(data)

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


async def test_what_is_written_in_one_turn_of_the_loop_is_sent_at_once():
    """The head and the body of an answer reach their reader together; what comes later goes by itself."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"head ")
    joined.write(b"body")
    await asyncio.sleep(0)
    joined.write(b"more")
    await asyncio.sleep(0)
    assert [b"head body", b"more"] == transport.written


async def test_what_is_much_does_not_wait_for_the_end_of_the_turn():
    """So that whoever writes hears that the reader is slow, before all of it is in memory."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    for _ in range(3):
        joined.write(b"x" * (module.AT_ONCE // 2))
    assert [module.AT_ONCE] == [len(written) for written in transport.written]
    await asyncio.sleep(0)
    assert module.AT_ONCE * 3 // 2 == sum(len(written) for written in transport.written)


async def test_what_is_written_before_a_close_is_sent():
    """And nothing after it."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"last words")
    joined.close()
    joined.write(b"too late")
    await asyncio.sleep(0)
    assert ([b"last words"], True) == (transport.written, transport.closed)


async def test_nothing_is_sent_to_who_has_gone():
    """A transport that is closing by itself takes no more."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"too late")
    transport.closed = True
    await asyncio.sleep(0)
    assert not transport.written


def test_the_head_of_an_answer_does_not_wait_for_its_body():
    """A stream is open for its reader before anything happens."""
    read = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            assert await asyncio.to_thread(read.wait, 10)
            await send({"type": "http.response.body", "body": b"ok"})

    with served(app) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(WHOLE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(4_096)
        read.set()
        assert client.recv(4_096) == b"ok"


async def hello(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def slow(scope, receive, send):
    """Answer later than the tests below let anybody ask."""
    await asyncio.sleep(1.5 if scope["type"] == "http" else 0)
    await hello(scope, receive, send)


WHOLE = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: he", id="half a request"),
        pytest.param(WHOLE + b"GET / HT", id="a request, and half of another one"),
    ],
)
def test_who_does_not_say_what_they_want_is_left(monkeypatch, said):
    """A silent socket costs nothing for long, and neither does one that lets its header drip."""
    monkeypatch.setattr(module, "ASK_WITHIN", timedelta(seconds=0.3))
    with served(hello) as (serving, address), socket.create_connection(address, 5) as client:
        client.sendall(said)
        while client.recv(4_096):  # until it is closed
            pass
        wait_until(lambda: not serving.server_state.connections, within=5, what="it is left")


def test_who_has_said_what_they_want_may_wait_for_it(monkeypatch):
    """An answer may take as long as it likes: a long-poll, a stream."""
    monkeypatch.setattr(module, "ASK_WITHIN", timedelta(seconds=1))

    with served(slow) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(WHOLE)
        answer = b""
        while not answer.endswith(b"ok"):
            more = client.recv(4_096)
            assert more, answer
            answer += more


def test_who_has_too_much_to_say_is_left():
    """Headers without an end are no way to fill the gateway's memory."""
    with served(hello) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(b"GET / HTTP/1.1\r\n" + b"X-More: and more\r\n" * (module.LONGEST_HEAD // 18 + 1))
        assert client.recv(4_096).startswith(b"HTTP/1.1 400 ")


def test_requests_that_come_together_are_answered_in_their_order(monkeypatch):
    """HTTP/1.1 lets a client send the next one before it has read the last answer; nobody is left for that."""
    monkeypatch.setattr(module, "ASK_WITHIN", timedelta(seconds=1))

    with served(slow) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(3 * WHOLE)
        answer = b""
        while answer.count(b"ok") < 3:
            more = client.recv(4_096)
            assert more, answer
            answer += more
