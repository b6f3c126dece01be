"""Says for each route what its caller must be allowed to do, and reads who they are from the request."""

from typing import Any

from fastapi import Depends
from fastapi.requests import HTTPConnection
from pydantic import AwareDatetime, BaseModel

from milepost_contracts.access import Scope
from milepost_gateway.access import Caller
from milepost_gateway.api.requests import header
from milepost_gateway.api.services import services
from milepost_gateway.errors import Unauthenticated

MOST_JOBS = 100
TOKEN = "token"  # noqa: S105 - the name of a parameter


def _may(scope: Scope) -> Any:
    async def authenticate(connection: HTTPConnection) -> None:
        caller = await services(connection).access.caller(_credential(connection))
        caller.need(scope)
        _note(connection, caller)

    return Depends(authenticate)


async def authenticate_listener(connection: HTTPConnection) -> None:
    """An EventSource and a browser's WebSocket can set no headers: they may have a stream token in the URL."""
    token = connection.query_params.get(TOKEN)
    access = services(connection).access
    if token is None or access.open:
        caller = await access.caller(_credential(connection))
        caller.need(Scope.READ)
    else:
        caller = access.reader(token, _jobs_of(connection))
    _note(connection, caller)


MAY_READ, MAY_SUBMIT, MAY_ADMINISTER = (_may(scope) for scope in (Scope.READ, Scope.SUBMIT, Scope.ADMIN))
MAY_LISTEN: Any = Depends(authenticate_listener)


def caller(connection: HTTPConnection) -> Caller:
    """Return who asks; only where a route says what they must be allowed to do."""
    found: Caller = connection.scope["state"]["caller"]
    return found


def _note(connection: HTTPConnection, caller: Caller) -> None:
    connection.scope.setdefault("state", {})["caller"] = caller


def tenant(connection: HTTPConnection) -> str:
    """Return whose jobs it is about."""
    return caller(connection).tenant


def _credential(connection: HTTPConnection) -> str | None:
    """Return the key or token; never one from the URL, which is logged on its way."""
    if (given := header(connection, b"authorization")) is None:
        return header(connection, b"x-api-key")
    scheme, _, credential = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("the Authorization header must be: Bearer …")
    return credential.strip()


def _jobs_of(connection: HTTPConnection) -> list[str]:
    if (job_id := connection.path_params.get("job_id")) is not None:
        return [job_id]
    tags = [named_tag(tag) for tag in connection.query_params.getlist("tag")]
    return [*connection.query_params.getlist("job"), *tags]


def named_tag(tag: str) -> str:
    """Name a tag among the ids of jobs, none of which looks like that."""
    return f"#{tag}"


class StreamToken(BaseModel):
    """Opens a stream where no headers can be set: `?token=…`."""

    token: str
    #: A stream that is open by then stays open; a reconnect needs a new token.
    expires_at: AwareDatetime
