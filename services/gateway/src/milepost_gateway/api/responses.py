"""Responses with a job's status, and the headers that polling clients and caches use."""

import random
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from milepost_contracts.clock import now
from milepost_contracts.http.problems import MEDIA_TYPE
from milepost_contracts.states import Status
from milepost_contracts.status.summary import Summary
from milepost_gateway.api.dependencies import dependencies
from milepost_gateway.api.requests import header
from milepost_gateway.ports.status_store import StoredDocument

_ETAG = re.compile(r'\s*(?:W/)?"(\d{1,15})w?"\s*')
JOBS = "/v1/jobs"
STATUS_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Prefer"}


def _encoded(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers.items())


_STATUS_HEADERS = _encoded(STATUS_HEADERS)
_JSON = (b"content-type", b"application/json")


def accepted(
    request: Request,
    job_id: str,
    stored: StoredDocument,
    *,
    projected: bool = True,
    waited: timedelta = timedelta(0),
) -> Response:
    """Return 202: where to poll, and when. Without `projected` no tracker has seen the document: its ETag is weak."""
    headers = [
        *_STATUS_HEADERS,
        *_encoded(locations(request, job_id)),
        (b"retry-after", _retry_after(request, stored.summary).encode()),
        (b"etag", etag(stored.version if projected else 0).encode()),
        _JSON,
    ]
    if waited:
        headers.append((b"preference-applied", _applied(waited).encode()))
    return EncodedResponse(HTTPStatus.ACCEPTED, headers, stored.body)


def locations(request: Request, job_id: str) -> dict[str, str]:
    """Return the headers with the URLs of the job and of its event stream."""
    location = job_url(request, job_id)
    return {
        "Location": location,
        "Operation-Location": location,
        "Link": f'<{location}/events>; rel="monitor"; type="text/event-stream"',
    }


def job_url(request: Request, job_id: str) -> str:
    """Return a job's URL; the framework's `url_for` takes longer than the rest of a response."""
    scope = request.scope
    server = scope.get("server")  # some servers give a list
    base = _base_url(scope["scheme"], header(request, b"host"), server and tuple(server), scope.get("root_path", ""))
    return f"{base}{JOBS[1:]}/{job_id}"


@lru_cache(maxsize=1_000)
def _base_url(scheme: str, host: str | None, server: tuple[str, int | None] | None, root_path: str) -> str:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    scope = {"scheme": scheme, "headers": headers, "server": server, "root_path": root_path}
    return str(Request({"type": "http", **scope}).base_url)


def done(request: Request, job_id: str, stored: StoredDocument, waited: timedelta) -> Response:
    """Return 200 with the document of a submitted job that has ended within the wait."""
    headers = {
        **STATUS_HEADERS,
        **locations(request, job_id),
        "Content-Location": job_url(request, job_id),
        "Preference-Applied": _applied(waited),
        "ETag": etag(stored.version),
    }
    return Response(stored.body, media_type="application/json", headers=headers)


def _applied(waited: timedelta) -> str:
    return f"wait={waited.total_seconds():g}"


class EncodedResponse(Response):
    """A response whose headers are already encoded."""

    def __init__(self, status_code: int, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status_code = status_code
        self.raw_headers = [*headers, (b"content-length", str(len(body)).encode())] if body else list(headers)
        self.body = body
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def result(request: Request, stored: StoredDocument, body: bytes) -> Response:
    """Return 200 with the result alone; only another run of the job changes it."""
    headers = {**STATUS_HEADERS, "ETag": etag(stored.version), "Sunset": _sunset(stored).decode()}
    if _matches(header(request, b"if-none-match"), _etag_of(stored)):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _sunset(stored: StoredDocument) -> bytes:
    assert stored.summary.expires_at is not None  # noqa: S101 - an ended job expires
    return _http_date(stored.summary.expires_at)


@lru_cache(maxsize=10_000)
def _http_date(moment: datetime) -> bytes:
    return format_datetime(moment, usegmt=True).encode()


def status(request: Request, stored: StoredDocument, *, waited: timedelta) -> Response:
    """Return 200 with the document, or 304 if the client has this version."""
    etag = _etag_of(stored)
    headers = [*_STATUS_HEADERS, (b"etag", etag.encode())]
    if waited:
        headers.append((b"preference-applied", _applied(waited).encode()))
    if stored.terminal:
        headers.append((b"sunset", _sunset(stored)))
    else:
        headers.append((b"retry-after", _retry_after(request, stored.summary).encode()))
    if _matches(header(request, b"if-none-match"), etag):
        return EncodedResponse(HTTPStatus.NOT_MODIFIED, headers)
    return EncodedResponse(HTTPStatus.OK, [*headers, _JSON], stored.body)


def _retry_after(request: Request, summary: Summary) -> str:
    usual_wait = dependencies(request).job_types.usual_wait(summary.queue)
    return str(next_poll_in(summary, now(), usual_wait=usual_wait))


def next_poll_in(seen: Summary, at: datetime, *, usual_wait: float | None = None) -> int:
    """Return the seconds until the next poll is useful, 1 to 30, with 10 % jitter so that clients don't poll in step.

    Until `run_at` for a job that waits for it; else a quarter of the remaining time, or if that is unknown, of the time
    since the last change. For a queued job the remaining time is the usual wait, less the time it has waited.

    Args:
        seen: The job's summary.
        at: The time of this poll.
        usual_wait: Seconds that jobs of its queue have waited lately, if known.
    """
    since_change = (at - seen.updated_at).total_seconds()
    if seen.status in (Status.SCHEDULED, Status.RETRYING) and seen.run_at is not None:
        wait = (seen.run_at - at).total_seconds()
    elif seen.eta is not None:
        wait = seen.eta / 4
    elif seen.status is Status.QUEUED and usual_wait is not None and usual_wait > since_change:
        wait = (usual_wait - since_change) / 4
    else:
        wait = since_change / 4
    return max(1, min(30, round(wait * random.uniform(0.9, 1.1))))


def etag(version: int) -> str:
    """Return the ETag of a version; weak for 0, which a 202 and a later GET render differently."""
    return f'"{version}"' if version else 'W/"0"'


def _etag_of(stored: StoredDocument) -> str:
    return f'"{stored.version}w"' if stored.waiting is not None else etag(stored.version)


def known_version(request: Request) -> int | None:
    """Return the version in `If-None-Match`, if there is one."""
    found = _ETAG.fullmatch(header(request, b"if-none-match") or "")
    return int(found[1]) if found else None


def _matches(condition: str | None, etag: str) -> bool:
    """Compare weakly (RFC 9110 §13.1.2)."""
    if condition is None or condition == etag:
        return condition is not None
    given = {one.strip().removeprefix("W/") for one in condition.split(",")}
    return etag.removeprefix("W/") in given or "*" in given


def problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the OpenAPI responses of these statuses: problems."""
    return {one: _problem(HTTPStatus(one).phrase) for one in statuses}


def _problem(description: str) -> dict[str, object]:
    """Return the OpenAPI response of a problem."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


ANY_PROBLEM: dict[int | str, dict[str, object]] = {"default": _problem("Any other problem")}
AUTHENTICATED = {401: _problem("Not authenticated"), 403: _problem("Not allowed"), **ANY_PROBLEM}
"""The OpenAPI responses of every route that needs a caller."""
