"""How responses are sent: joined writes, and a close that a client which is still sending survives."""

import asyncio
from datetime import timedelta
from typing import Any

FLUSH_SIZE = 64 * 1024
"""Bytes that are sent before the end of an iteration: the transport then applies back-pressure for a slow reader."""
LINGER = timedelta(seconds=2)
"""How long the rest of a request is read and dropped after a response that did not wait for it."""


class JoinedWrites:
    """A transport that joins the writes of one iteration of the event loop.

    uvicorn writes the head and the body of a response separately, and each write wakes the client: that costs more than
    everything the gateway does for a poll.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0
        self._closed = False
        #: Whether the client may still be sending a request. The kernel resets a connection that is closed then, and
        #: the client may lose the response: so the close lingers (RFC 9112 §9.6).
        self.receiving = False

    def write(self, data: bytes) -> None:
        if self._closed:
            return
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
        """Send what is written, and close: at once, or after `LINGER` if the client may still be sending."""
        if self.is_closing():
            return
        self._send()
        self._closed = True
        if self.receiving and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(LINGER.total_seconds(), self._transport.close)
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        """Delegate the rest to the transport: uvicorn sends by `write` and `close` only."""
        return getattr(self._transport, name)
