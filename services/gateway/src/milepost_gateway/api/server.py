"""uvicorn for streams: they end when the process is to stop, and connections of stalled clients are closed.

A client is stalled if it reads no response, sends no request, or stops within one. The writes of one iteration of the
event loop are sent together.
"""

import asyncio
import signal
import socket
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from milepost_service.settings import SettingsError

log = structlog.get_logger(__name__)

UNREAD_TIMEOUT = timedelta(seconds=15)
"""How long the client may read nothing before the kernel ends the connection: a close would wait for it."""
HEAD_TIMEOUT = timedelta(seconds=10)
"""How long a client may take to send a request's head: all of it but its body."""
MAX_HEAD = 64 * 1024
"""Maximum size of a request's head, in bytes; llhttp itself has no limit."""
FLUSH_SIZE = 64 * 1024
"""Bytes that are sent before the end of an iteration: the transport then applies back-pressure for a slow reader."""


class _JoinedWrites:
    """A transport that joins the writes of one iteration of the event loop.

    uvicorn writes the head and the body of a response separately, and each write wakes the client: that costs more than
    everything the gateway does for a poll.
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
        if self._size >= FLUSH_SIZE:
            self._send()

    def _send(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Delegate the rest to the transport: uvicorn sends by `write` and `close` only."""
        return getattr(self._transport, name)


class ReadTimeoutProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a timeout and a size limit for the head of a request."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_size = 0
    """Bytes received of a request whose headers are not complete."""
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            return
        self._head_size += len(data)
        if self._head_size > MAX_HEAD:
            self.send_400_response("The headers are too large.")
        elif self._head_timer is None:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        self._in_head, self._head_size = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT.total_seconds(), self.transport.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Server(uvicorn.Server):
    """Serves one app."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        """Create a server that sets `closing` when it is to stop, so that streams end: uvicorn waits for them."""
        super().__init__(config)
        self._closing = closing

    def listen_and_run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            SettingsError: It can't listen on this host and port.
        """
        try:
            listening = self.config.bind_socket()
        except SystemExit as error:  # uvicorn raises it in place of the OSError
            where = f"{self.config.host}, port {self.config.port}"
            raise SettingsError(
                f"MILEPOST_HOST and MILEPOST_PORT: can't listen on {where}: {error.__context__}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)  # uvicorn raises it once more after it has stopped
        # asyncio sets it only on sockets that name their protocol, and this one does not. Without it the body of a
        # response waited 40 ms for the client's acknowledgment of the head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
            limit = int(UNREAD_TIMEOUT.total_seconds() * 1000)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
        log.info("gateway_listening", url="http://{}:{}".format(*listening.getsockname()[:2]))
        self.run(sockets=[listening])
        log.info("gateway_stopped")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then stop."""
        self._closing.set()
        super().handle_exit(sig, frame)
