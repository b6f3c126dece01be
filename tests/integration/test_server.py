"""The gateway's HTTP server with readers that do not read."""

import asyncio
import socket
import sys
import threading
from datetime import timedelta

import pytest
import uvicorn
from waiting import wait_until

from milepost_gateway import server as module
from milepost_gateway.server import Server

ENOUGH = 64 * 1024 * 1024
"""More than any buffer between two ends takes."""


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_a_client_that_never_reads_is_left(monkeypatch):
    """Its connection does not stay for ever, though a close would wait for it to read what was sent."""
    monkeypatch.setattr(module, "READ_WITHIN", timedelta(seconds=1))

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with asyncio.timeout(0.5):
            for _ in range(ENOUGH // 65_536):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)
    serving = Server(config, asyncio.Event())
    thread = threading.Thread(target=serving.listen_and_run)
    thread.start()
    try:
        wait_until(lambda: serving.started, within=10, what="it serves")
        address = serving.servers[0].sockets[0].getsockname()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect(address)
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            wait_until(lambda: serving.server_state.connections, within=5, what="it is connected")
            wait_until(lambda: not serving.server_state.connections, within=20, what="it is left")
    finally:
        serving.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()
