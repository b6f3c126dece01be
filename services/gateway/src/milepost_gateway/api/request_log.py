"""One canonical log line for each request, and the request id that its problem and its other lines share."""

import logging
import time
from functools import lru_cache
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from milepost_gateway import metrics
from milepost_gateway.api.requests import request_id
from milepost_gateway.core.authentication import Caller

log = structlog.get_logger(__name__)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNLOGGED_PATHS = frozenset({"/livez", "/readyz", "/metrics"})


def _caller_fields(scope: Scope) -> dict[str, str]:
    caller = scope.get("state", {}).get("caller")
    return {"tenant": caller.tenant, "caller": caller.name} if isinstance(caller, Caller) else {}


def _method(scope: Scope) -> str:
    """Return the method if HTTP defines it: a client may send any word, and each would be a new time series."""
    return str(scope["method"]) if scope["method"] in METHODS else "other"


def _route(scope: Scope) -> str:
    """Return the route's path with the names of its parameters: never an id or other text from the client."""
    return str(getattr(scope.get("route"), "path", "none"))


class RequestLog:
    """An ASGI middleware: logs each request, and adds `X-Request-Id` to its response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, identity = time.monotonic(), begin(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], identity]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            end(scope, status, begun)


def begin(scope: Scope) -> tuple[bytes, bytes]:
    """Bind the request id to the log lines of this request; return the header that carries it."""
    identity = request_id(scope)
    structlog.contextvars.bind_contextvars(request_id=identity)  # each request has a context of its own
    return b"x-request-id", identity.encode()


def end(scope: Scope, status: int, begun: float) -> None:
    """Measure and log an answered request."""
    seconds = time.monotonic() - begun
    _observed(_method(scope), _route(scope), status).observe(seconds)
    if log.is_enabled_for(logging.INFO) and scope["path"] not in UNLOGGED_PATHS:
        log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            **_caller_fields(scope),
            ms=round(seconds * 1000, 1),
        )


@lru_cache(maxsize=1_000)
def _observed(method: str, route: str, status: int) -> Any:
    return metrics.requests.labels(method, route, str(status))
