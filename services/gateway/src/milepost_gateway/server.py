"""uvicorn, with streams in mind: they end when the process is to stop, and nobody keeps a connection open for nothing.

Who does not read what is sent, does not say what is wanted, or stops in the middle of it, is left. What is written in
one turn of the loop is sent at once.
"""

import asyncio
import socket
from datetime import timedelta
from types import FrameType
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger(__name__)

READ_WITHIN = timedelta(seconds=15)
"""After so long without room for more, a connection is ended by the kernel: a close would wait for its reader."""
ASK_WITHIN = timedelta(seconds=10)
"""How long a connection may take to say what it wants: to send all of a request but its body."""
LONGEST_HEAD = 64 * 1024
"""The most bytes of what it says then; llhttp itself keeps as many as come."""
AT_ONCE = 64 * 1024
"""The most bytes kept for the end of a turn of the loop: of more, the transport says when its reader is slow."""


class JoinedWrites:
    """A transport that sends what was written in one turn of the loop at once.

    uvicorn writes the head and the body of an answer apart, and each write wakes the client: that costs more than all
    that the gateway itself does for a poll.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._send)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= AT_ONCE:
            self._send()

    def _send(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Leave the rest to the transport; uvicorn writes and closes, and no more."""
        return getattr(self._transport, name)


class ImpatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 for clients that know what they want."""

    _waiting: asyncio.TimerHandle | None = None
    _said = 0
    """Bytes that have come of a request whose headers are not complete."""
    _asking = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._asking:
            return
        self._said += len(data)
        if self._said > LONGEST_HEAD:
            self.send_400_response("Too much before the end of the headers.")
        elif self._waiting is None:
            self._wait()

    def on_message_begin(self) -> None:
        self._asking, self._said = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._asking = False
        self._wait_no_more()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(ASK_WITHIN.total_seconds(), self.transport.close)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Server(uvicorn.Server):
    """Serves one app."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        """Prepare; `closing` is set once the process is to stop: uvicorn waits for connections, and streams stay."""
        super().__init__(config)
        self._closing = closing

    def listen_and_run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        listening = self.config.bind_socket()
        # asyncio does so only where a socket names its protocol, and this one does not: what followed the head
        # of an answer waited for 40 ms, until the client had acknowledged that.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; what it accepts inherits it
            limit = int(READ_WITHIN.total_seconds() * 1000)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
        log.info("gateway_listening", url="http://{}:{}".format(*listening.getsockname()[:2]))
        self.run(sockets=[listening])
        log.info("gateway_stopped")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in good order."""
        self._closing.set()
        super().handle_exit(sig, frame)
