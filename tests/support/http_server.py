"""Serves an ASGI app as the gateway does, on loopback, and speaks to it in bytes."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager

import uvicorn
from waiting import wait_until

from milepost_gateway.api.protocol import HttpProtocol
from milepost_gateway.api.server import Server


@contextmanager
def served(app):
    """Serve an app as the gateway does; return the server and its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, http=HttpProtocol)
    server = Server(config, asyncio.Event())
    thread = threading.Thread(target=server.listen_and_run)
    thread.start()
    try:
        wait_until(lambda: server.started, within=10, what="the server has started")
        yield server, server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()


class Recorder:
    """An app that records what it is asked, and answers with a count of it."""

    def __init__(self):
        self.executed = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            self.executed.append(("websocket", scope["path"], b""))
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        self.executed.append((scope["method"], scope["path"], body))
        self.headers = dict(scope["headers"])
        answer = str(len(self.executed)).encode()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        )
        await send({"type": "http.response.body", "body": answer})


def exchange(address, *pieces, last=b""):
    """Send these pieces, each in a segment of its own, and return what is answered until it is `last` or the end."""
    with socket.create_connection(address, 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        return receive(client, last=last)


def receive(client, *, last=b""):
    """Return what arrives until it ends with `last`, or the connection does."""
    answer = b""
    while not (last and answer.endswith(last)) and (more := client.recv(65_536)):
        answer += more
    return answer


def problem(answer):
    """Return the status and the slug of a response that is one problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), answer
    assert b"connection: close" in head.lower(), answer
    found = json.loads(body)
    assert int(head.split()[1]) == found["status"]
    return found["status"], found["type"].partition("#")[2]
