"""`/livez`, `/readyz` and `/metrics`: probes and metrics of this process."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from milepost_contracts.http.access import Scope
from milepost_gateway.api import responses
from milepost_gateway.api.authentication import MAY_READ_METRICS, tenant
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.core.authentication import OPEN_TENANT
from milepost_gateway.errors import Forbidden, StoreUnavailable

router = APIRouter(tags=["health"], responses=responses.ANY_PROBLEM)
CONTENT: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string"}},
    "application/json": {"schema": {"type": "object"}},
}
PUBLIC: dict[str, Any] = {"security": []}
NO_STORE = {"Cache-Control": "no-store"}


@router.get(
    "/livez",
    summary="Check that the process is alive",
    response_class=PlainTextResponse,
    openapi_extra=PUBLIC,
)
async def livez() -> Response:
    """Answer 200 even if RabbitMQ or Redis is down: restarting this process would not help."""
    return PlainTextResponse("alive\n", headers=NO_STORE)


@router.get(
    "/readyz",
    summary="Check that RabbitMQ and Redis answer",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "Both answer", "content": CONTENT},
        503: {"description": "RabbitMQ or Redis does not answer", "content": CONTENT},
    },
    openapi_extra=PUBLIC,
)
async def readyz(request: Request, verbose: Annotated[bool | str, Query()] = False) -> Response:
    """Check Redis now, and RabbitMQ every 2 s; with `verbose` answer JSON."""
    deps = dependencies(request)
    broker, redis = await asyncio.gather(deps.broker.answers(), deps.store.answers())
    checks = {"rabbitmq": broker, "redis": redis}
    code = 200 if all(checks.values()) else 503
    if verbose is not False:
        body = {"ready": code == 200, "checks": checks, "live_processors": await _live_processors(request)}  # noqa: PLR2004
        return JSONResponse(body, status_code=code, headers=NO_STORE)
    missing = ", ".join(name for name, well in checks.items() if not well)
    return PlainTextResponse(f"not ready: {missing}\n" if missing else "ready\n", status_code=code, headers=NO_STORE)


@router.get(
    "/metrics",
    dependencies=[MAY_READ_METRICS],
    summary="Get the metrics of this process, for Prometheus",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "The metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **responses.AUTHENTICATED,
    },
)
async def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format, with the metrics token or to admins of `default`: they cover all tenants."""
    if tenant(request) != OPEN_TENANT:
        raise Forbidden(f"{Scope.ADMIN}, of the tenant {OPEN_TENANT}")
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST, headers=NO_STORE)


async def _live_processors(request: Request) -> int | None:
    """Return the number of live processors; nothing if Redis can't be read."""
    try:
        return len(await dependencies(request).job_types.processors())
    except StoreUnavailable:
        return None
