"""The gateway's HTTP server with slow and silent clients."""

import asyncio
import socket
import sys
import threading
from datetime import timedelta

import pytest
from http_server import served
from waiting import wait_until

from milepost_gateway.api import protocol
from milepost_gateway.api import server as module
from milepost_gateway.api.transport import FLUSH_SIZE, JoinedWrites

MORE_THAN_BUFFERS = 64 * 1024 * 1024
"""Bytes; more than the socket buffers of both ends hold."""


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_the_connection_of_a_client_that_does_not_read_is_closed(monkeypatch):
    """Without the time-out, closing would wait until the client has read everything."""
    monkeypatch.setattr(module, "UNREAD_TIMEOUT", timedelta(seconds=1))

    requested = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        requested.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with asyncio.timeout(0.5):
            for _ in range(MORE_THAN_BUFFERS // 65_536):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

    with served(app) as (server, address), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(address)
        client.sendall(REQUEST)
        assert requested.wait(5)
        wait_until(lambda: not server.server_state.connections, within=20, what="the connection is closed")


def test_nagles_algorithm_is_disabled():
    """It would delay a response of two writes until the client has acknowledged the first: 40 ms."""
    with served(hello) as (server, address), socket.create_connection(address):
        (connection,) = wait_until(lambda: server.server_state.connections, within=5, what="it is connected")
        assert isinstance(connection.transport, JoinedWrites)
        server_socket = connection.transport.get_extra_info("socket")
        assert 1 == server_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Transport(asyncio.Transport):
    """Records what is written to it."""

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


async def test_writes_of_one_loop_iteration_are_sent_together():
    """The head and the body of a response are one packet; a later write is sent by itself."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"head ")
    joined.write(b"body")
    await asyncio.sleep(0)
    joined.write(b"more")
    await asyncio.sleep(0)
    assert [b"head body", b"more"] == transport.written


async def test_writes_are_flushed_at_once_above_the_flush_size():
    """So back-pressure applies before all of the response is in memory."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    for _ in range(3):
        joined.write(b"x" * (FLUSH_SIZE // 2))
    assert [FLUSH_SIZE] == [len(written) for written in transport.written]
    await asyncio.sleep(0)
    assert FLUSH_SIZE * 3 // 2 == sum(len(written) for written in transport.written)


async def test_writes_before_a_close_are_sent():
    """Writes after it are dropped."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"last words")
    joined.close()
    joined.write(b"too late")
    await asyncio.sleep(0)
    assert ([b"last words"], True) == (transport.written, transport.closed)


async def test_nothing_is_written_to_a_closing_transport():
    """Its client has disconnected."""
    transport = Transport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"too late")
    transport.closed = True
    await asyncio.sleep(0)
    assert not transport.written


def test_the_head_of_a_response_is_sent_before_its_body():
    """A client sees that its stream is open before the first event."""
    read = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            assert await asyncio.to_thread(read.wait, 10)
            await send({"type": "http.response.body", "body": b"ok"})

    with served(app) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(REQUEST)
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
    """Answer after more than the time-outs of the tests below."""
    await asyncio.sleep(1.5 if scope["type"] == "http" else 0)
    await hello(scope, receive, send)


REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: he", id="half a request"),
        pytest.param(REQUEST + b"GET / HT", id="a request, and half of another one"),
    ],
)
def test_a_connection_without_a_complete_request_head_is_closed(monkeypatch, sent):
    """After `HEAD_TIMEOUT`, also if the header arrives byte by byte."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", timedelta(seconds=0.3))
    with served(hello) as (server, address), socket.create_connection(address, 5) as client:
        client.sendall(sent)
        while client.recv(4_096):  # until it is closed
            pass
        wait_until(lambda: not server.server_state.connections, within=5, what="the connection is closed")


def test_a_response_may_take_longer_than_the_head_timeout(monkeypatch):
    """A long poll or a stream, for example."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", timedelta(seconds=1))

    with served(slow) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(REQUEST)
        answer = b""
        while not answer.endswith(b"ok"):
            more = client.recv(4_096)
            assert more, answer
            answer += more


def test_pipelined_requests_are_answered_in_their_order(monkeypatch):
    """HTTP/1.1 lets a client send the next request before it has read the last response; it causes no time-out."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", timedelta(seconds=1))

    with served(slow) as (_, address), socket.create_connection(address, 5) as client:
        client.sendall(3 * REQUEST)
        answer = b""
        while answer.count(b"ok") < 3:
            more = client.recv(4_096)
            assert more, answer
            answer += more
