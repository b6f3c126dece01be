"""`/livez`, `/readyz` and `/metrics` for a process without another HTTP server, on a separate thread."""

import hmac
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import make_wsgi_app
from pydantic import SecretStr

from milepost_service.settings import SettingsError

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT = 10.0
"""Seconds that a client may take for a request."""

#: Returns the names of the parts that are not ready. Called from the server's threads.
Unready = Callable[[], list[str]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Log the error: `socketserver` prints it to `sys.stderr`, which may be closed, and would end the server."""
        del request, client_address
        log.warning("health_request_failed", error=repr(sys.exception()))


class _Quiet(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT  # whatever `socket.setdefaulttimeout` says

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        pass


class HealthServer:
    """Serves health and metrics until closed.

    Raises:
        SettingsError: It can't listen on this host and port.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        unready: Unready,
        alive: Callable[[], bool] = lambda: True,
        token: SecretStr | None = None,
    ) -> None:
        """Begin to serve.

        Args:
            host: The address to listen on.
            port: The port to listen on.
            unready: The parts that are not ready, for `/readyz`.
            alive: Whether the process works, for `/livez`; called from the server's threads.
            token: If given, the metrics and what is not ready are only shown to requests that have it.
        """
        self._unready = unready
        self._alive = alive
        self._authorization = None if token is None else f"Bearer {token.get_secret_value()}".encode()
        self._metrics = make_wsgi_app()
        try:
            self._server = make_server(host, port, self._app, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise SettingsError(
                f"MILEPOST_HEALTH_HOST and MILEPOST_HEALTH_PORT: can't listen on {host}:{port}: {error}"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it serves: its thread runs, and its socket is open."""
        return self._thread.is_alive() and _is_open(self._server.fileno())

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, trusted = environ.get("PATH_INFO", "/"), self._is_trusted(environ)
        if path == "/metrics":
            answer: Iterable[bytes] = (self._metrics if trusted else _require_token)(environ, start_response)
            return answer
        if path == "/livez":
            if not self._alive():
                return _plain(start_response, "503 Service Unavailable", "not alive: the main thread does not run")
            return _plain(start_response, "200 OK", "alive")
        if path == "/readyz":
            missing = self._unready()
            if missing:
                why = "not ready" + (": " + ", ".join(missing) if trusted else "")
                return _plain(start_response, "503 Service Unavailable", why)
            return _plain(start_response, "200 OK", "ready")
        return _plain(start_response, "404 Not Found", "use /livez, /readyz or /metrics")

    def _is_trusted(self, environ: WSGIEnvironment) -> bool:
        given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        return self._authorization is None or hmac.compare_digest(given, self._authorization)


def _require_token(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    del environ
    headers = [("WWW-Authenticate", "Bearer")]
    return _plain(start_response, "401 Unauthorized", "the metrics token is required", headers)


def _is_open(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _plain(
    start_response: StartResponse, status: str, text: str, headers: Iterable[tuple[str, str]] = ()
) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *headers])
    return [text.encode() + b"\n"]
