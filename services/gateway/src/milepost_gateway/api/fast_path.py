"""A fast path to the two hottest routes: calls their checks, endpoints and problem handlers without FastAPI.

FastAPI's routing costs several times what these endpoints cost. Requests with a query, an Origin header, another method
or a malformed id go through FastAPI, which calls the same functions.
"""

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from milepost_contracts.ids import looks_like_an_id
from milepost_gateway.api import problems
from milepost_gateway.api.browsers import BrowserPolicy
from milepost_gateway.api.request_log import RequestLog, begin, end
from milepost_gateway.api.responses import JOBS
from milepost_gateway.api.routes.jobs import get_job, router, submit_job

JOB = f"{JOBS}/"


def _route(endpoint: Any) -> APIRoute:
    return next(route for route in router.routes if isinstance(route, APIRoute) and route.endpoint is endpoint)


SUBMIT, GET = _route(submit_job), _route(get_job)


class Gateway(FastAPI):
    """The FastAPI app, with the fast path in front."""

    def __init__(self, *, browsers: BrowserPolicy, **settings: Any) -> None:
        super().__init__(**settings)
        self._browsers = browsers
        self._framework = RequestLog(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and (refusal := self._browsers.refusal(scope)) is not None:
            await RequestLog(problems.app_of(*refusal))(scope, receive, send)
            return
        found = _find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._framework(scope, receive, send)
            return
        route, path_params = found
        scope["app"], scope["route"] = self, route
        begun, identity = time.monotonic(), begin(scope)
        request = Request(scope, receive, send)
        try:
            for check in route.dependencies:
                await check.dependency(request)  # type: ignore[misc]
            response = await route.endpoint(request, **path_params)
        except Exception as error:  # noqa: BLE001 - every error has a handler
            response = await self._problem(request, error)
        response.raw_headers.append(identity)
        try:
            await response(scope, receive, send)
        finally:
            end(scope, response.status_code, begun)

    async def _problem(self, request: Request, error: Exception) -> Response:
        handler = next(self.exception_handlers[kind] for kind in type(error).__mro__ if kind in self.exception_handlers)
        return await handler(request, error)  # type: ignore[misc, no-any-return]


def _find(scope: Scope) -> tuple[APIRoute, dict[str, str]] | None:
    path, method = scope["path"], scope["method"]
    if scope["query_string"] or not path.startswith(JOBS):
        return None
    for name, _ in scope["headers"]:
        if name == b"origin":
            return None
    if method == "GET" and path.startswith(JOB) and looks_like_an_id(job_id := path[len(JOB) :]):
        return GET, {"job_id": job_id}
    return (SUBMIT, {}) if method == "POST" and path == JOBS else None
