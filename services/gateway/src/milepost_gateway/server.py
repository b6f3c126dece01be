"""uvicorn, with streams in mind: they end when the process is to stop, and nobody keeps one open without reading."""

import asyncio
import socket
from datetime import timedelta
from types import FrameType

import uvicorn

READ_WITHIN = timedelta(seconds=15)
"""After so long without room for more, a connection is ended by the kernel: a close would wait for its reader."""


class Server(uvicorn.Server):
    """Serves one app."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        """Prepare; `closing` is set once the process is to stop: uvicorn waits for connections, and streams stay."""
        super().__init__(config)
        self._closing = closing

    def listen_and_run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        listening = self.config.bind_socket()
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; what it accepts inherits it
            limit = int(READ_WITHIN.total_seconds() * 1000)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
        self.run(sockets=[listening])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in good order."""
        self._closing.set()
        super().handle_exit(sig, frame)
