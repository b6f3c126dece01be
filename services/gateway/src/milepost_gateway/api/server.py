"""uvicorn for streams: they end when the process is to stop, and connections of clients that don't read are closed."""

import asyncio
import signal
import socket
import threading
from datetime import timedelta
from types import FrameType

import structlog
import uvicorn

from milepost_service.settings import SettingsError

log = structlog.get_logger(__name__)

UNREAD_TIMEOUT = timedelta(seconds=15)
"""How long the client may read nothing before the kernel ends the connection: a close would wait for it."""


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
