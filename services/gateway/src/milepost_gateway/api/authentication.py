"""Authenticates requests, and checks the scope that each route requires."""

from typing import Any

from fastapi import Depends
from fastapi.requests import HTTPConnection
from pydantic import AwareDatetime

from milepost_contracts.http.access import Scope
from milepost_contracts.values import Value
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.api.requests import header
from milepost_gateway.core.authentication import Caller
from milepost_gateway.errors import Unauthenticated

MAX_STREAM_JOBS = 100
TOKEN = "token"  # noqa: S105 - the name of a parameter
AUTHENTICATED: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
"""How a caller may authenticate, as OpenAPI security requirements."""


def _may(scope: Scope) -> Any:
    async def authenticate(connection: HTTPConnection) -> None:
        caller = await dependencies(connection).authentication.caller(_credential(connection))
        caller.need(scope)
        _set_caller(connection, caller)

    return Depends(authenticate)


async def authenticate_listener(connection: HTTPConnection) -> None:
    """Authenticate a stream's client: a browser can't set headers for it, so a stream token in the URL is accepted."""
    token = connection.query_params.get(TOKEN)
    access = dependencies(connection).authentication
    if token is None or access.open:
        caller = await access.caller(_credential(connection))
        caller.need(Scope.READ)
    else:
        caller = access.reader(token, _jobs_of(connection))
    _set_caller(connection, caller)


async def authenticate_metrics_reader(connection: HTTPConnection) -> None:
    """Authenticate whoever reads metrics: by the metrics token, or as an admin."""
    caller = await dependencies(connection).authentication.metrics_reader(_credential(connection))
    caller.need(Scope.ADMIN)
    _set_caller(connection, caller)


MAY_READ, MAY_SUBMIT, MAY_ADMINISTER = (_may(scope) for scope in (Scope.READ, Scope.SUBMIT, Scope.ADMIN))
MAY_LISTEN: Any = Depends(authenticate_listener)
MAY_READ_METRICS: Any = Depends(authenticate_metrics_reader)


def caller(connection: HTTPConnection) -> Caller:
    """Return the caller of an authenticated request."""
    found: Caller = connection.scope["state"]["caller"]
    return found


def _set_caller(connection: HTTPConnection, caller: Caller) -> None:
    connection.scope.setdefault("state", {})["caller"] = caller


def tenant(connection: HTTPConnection) -> str:
    """Return the caller's tenant."""
    return caller(connection).tenant


def _credential(connection: HTTPConnection) -> str | None:
    """Return the API key or token of the headers; none is read from the URL, because proxies log URLs."""
    if (given := header(connection, b"authorization")) is None:
        return header(connection, b"x-api-key")
    scheme, _, credential = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("the Authorization header must have the scheme Bearer")
    return credential.strip()


def _jobs_of(connection: HTTPConnection) -> list[str]:
    if (job_id := connection.path_params.get("job_id")) is not None:
        return [job_id]
    tags = [named_tag(tag) for tag in connection.query_params.getlist("tag")]
    return [*connection.query_params.getlist("job"), *tags]


def named_tag(tag: str) -> str:
    """Return a tag in a form that no job id has, to list it among job ids."""
    return f"#{tag}"


class StreamToken(Value):
    """A token for streams whose client can't set headers: `?token=…`."""

    token: str
    expires_at: AwareDatetime
    """A stream that is open then stays open; a reconnect needs a new token."""
