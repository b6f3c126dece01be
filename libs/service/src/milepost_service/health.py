"""`/livez`, `/readyz` and `/metrics` for a process without another HTTP server, on a separate thread."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from milepost_service.settings import SettingsError

#: Returns the names of the parts that are not ready. Called from the server's threads.
Unready = Callable[[], list[str]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        pass


class HealthServer:
    """Serves health and metrics until closed.

    Raises:
        SettingsError: It can't listen on this host and port.
    """

    def __init__(self, *, host: str, port: int, unready: Unready) -> None:
        self._unready = unready
        self._metrics = make_wsgi_app()
        try:
            self._server = make_server(host, port, self._app, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise SettingsError(
                f"MILEPOST_HEALTH_HOST and MILEPOST_HEALTH_PORT: can't listen on {host}:{port}: {error}"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path == "/livez":
            return _plain(start_response, "200 OK", "alive")
        if path == "/readyz":
            missing = self._unready()
            if missing:
                return _plain(start_response, "503 Service Unavailable", "not ready: " + ", ".join(missing))
            return _plain(start_response, "200 OK", "ready")
        return _plain(start_response, "404 Not Found", "use /livez, /readyz or /metrics")


def _plain(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [text.encode() + b"\n"]
