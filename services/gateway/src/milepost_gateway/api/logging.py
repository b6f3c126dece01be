"""One canonical log line for each request, and the request id that ties it to its problem and other lines."""

import time

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from milepost_gateway import metrics
from milepost_gateway.access import Caller
from milepost_gateway.api.requests import request_id

log = structlog.get_logger(__name__)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUIET = frozenset({"/livez", "/readyz", "/metrics"})


def _who(scope: Scope) -> dict[str, str]:
    caller = scope.get("state", {}).get("caller")
    return {"tenant": caller.tenant, "caller": caller.name} if isinstance(caller, Caller) else {}


def _method(scope: Scope) -> str:
    """Return the method, if it is one of HTTP's: anybody can make up others."""
    return str(scope["method"]) if scope["method"] in METHODS else "other"


def _route(scope: Scope) -> str:
    """Return the route's path with the names of its places: never an id, nor what somebody made up."""
    return str(getattr(scope.get("route"), "path", "none"))


class RequestLog:
    """An ASGI middleware; adds `X-Request-Id` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = request_id(Request(scope))
        begun = time.monotonic()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=identity):
            try:
                await self._app(scope, receive, noting)
            finally:
                seconds = time.monotonic() - begun
                metrics.requests.labels(_method(scope), _route(scope), str(status)).observe(seconds)
                if scope["path"] not in QUIET:
                    log.info(
                        "request",
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        **_who(scope),
                        ms=round(seconds * 1000, 1),
                    )
