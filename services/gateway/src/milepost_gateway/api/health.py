"""`/livez`, `/readyz` and `/metrics`: for whoever starts, watches and routes to this process."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from milepost_contracts.access import Scope
from milepost_gateway.access import OPEN_TENANT
from milepost_gateway.api.access import MAY_ADMINISTER, tenant
from milepost_gateway.api.services import services
from milepost_gateway.errors import Forbidden, StoreUnavailable

router = APIRouter(tags=["health"])
CONTENT: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string"}},
    "application/json": {"schema": {"type": "object"}},
}
NO_STORE = {"Cache-Control": "no-store"}


@router.get("/livez", summary="Is the process alive?", response_class=PlainTextResponse)
async def livez() -> Response:
    """Answer 200 whatever else is away: restarting this process would mend none of it."""
    return PlainTextResponse("alive\n", headers=NO_STORE)


@router.get(
    "/readyz",
    summary="Can it accept jobs and tell their status?",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "It can", "content": CONTENT},
        503: {"description": "The broker or Redis does not answer", "content": CONTENT},
    },
)
async def readyz(request: Request, verbose: Annotated[bool | str, Query()] = False) -> Response:
    """Ask the broker and Redis now."""
    parts = services(request)
    broker, redis = await asyncio.gather(parts.broker.answers(), parts.store.answers())
    checks = {"rabbitmq": broker, "redis": redis}
    code = 200 if all(checks.values()) else 503
    if verbose is not False:
        told = {"ready": code == 200, "checks": checks, "live_processors": await _live_processors(request)}  # noqa: PLR2004
        return JSONResponse(told, status_code=code, headers=NO_STORE)
    missing = ", ".join(name for name, well in checks.items() if not well)
    return PlainTextResponse(f"not ready: {missing}\n" if missing else "ready\n", status_code=code, headers=NO_STORE)


@router.get(
    "/metrics",
    dependencies=[MAY_ADMINISTER],
    summary="What has happened here, for Prometheus",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "All that is counted", "content": {"text/plain": {"schema": {"type": "string"}}}},
    },
)
async def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format; where there is an access file, to admins of `default`: it tells of all."""
    if tenant(request) != OPEN_TENANT:
        raise Forbidden(f"{Scope.ADMIN}, of the tenant {OPEN_TENANT}")
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST, headers=NO_STORE)


async def _live_processors(request: Request) -> int | None:
    """Return how many processors are alive; nothing while nobody can say."""
    try:
        return len(await services(request).catalogue.processors())
    except StoreUnavailable:
        return None
