"""Headers of a status: what generic polling clients and caches go by."""

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

from milepost_contracts.envelope import now
from milepost_contracts.glance import Glance, glance
from milepost_contracts.problems import MEDIA_TYPE
from milepost_contracts.states import Status
from milepost_gateway.api.requests import header
from milepost_gateway.api.services import services
from milepost_gateway.ports import Stored

_ETAG = re.compile(r'\s*(?:W/)?"(\d{1,15})w?"\s*')
JOBS = "/v1/jobs"
STATUS_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Prefer"}


def _spelled(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers.items())


_STATUS_HEADERS = _spelled(STATUS_HEADERS)
_JSON = (b"content-type", b"application/json")


def accepted(
    request: Request, job_id: str, body: bytes, *, version: int = 0, waited: timedelta = timedelta(0)
) -> Response:
    """202: where to look, and when."""
    headers = [
        *_STATUS_HEADERS,
        *_spelled(locations(request, job_id)),
        (b"retry-after", _come_back(request, glance(body)).encode()),
        (b"etag", etag(version).encode()),
        _JSON,
    ]
    if waited:
        headers.append((b"preference-applied", _applied(waited).encode()))
    return Answer(HTTPStatus.ACCEPTED, headers, body)


def locations(request: Request, job_id: str) -> dict[str, str]:
    """Say where the job can be looked at, and followed."""
    location = job_url(request, job_id)
    return {
        "Location": location,
        "Operation-Location": location,
        "Link": f'<{location}/events>; rel="monitor"; type="text/event-stream"',
    }


def job_url(request: Request, job_id: str) -> str:
    """Return where a job is; asking the framework for that takes longer than the rest of an answer."""
    scope = request.scope
    base = _base_url(scope["scheme"], header(request, b"host"), scope.get("server"), scope.get("root_path", ""))
    return f"{base}{JOBS[1:]}/{job_id}"


@lru_cache(maxsize=1_000)
def _base_url(scheme: str, host: str | None, server: tuple[str, int | None] | None, root_path: str) -> str:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    scope = {"scheme": scheme, "headers": headers, "server": server, "root_path": root_path}
    return str(Request({"type": "http", **scope}).base_url)


def done(request: Request, job_id: str, stored: Stored, waited: timedelta) -> Response:
    """200: the job that was handed over has ended already."""
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


class Answer(Response):
    """A response whose headers are spelled already."""

    def __init__(self, status_code: int, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status_code = status_code
        self.raw_headers = [*headers, (b"content-length", str(len(body)).encode())] if body else list(headers)
        self.body = body
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def result(request: Request, stored: Stored, body: bytes) -> Response:
    """200 with the result alone; it does not change any more, but for another run of the job."""
    sunset = _http_date(stored.expires_at).decode()
    headers = {**STATUS_HEADERS, "ETag": etag(stored.version), "Sunset": sunset}
    if _matches(header(request, b"if-none-match"), _etag_of(stored)):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@lru_cache(maxsize=10_000)
def _http_date(moment: bytes) -> bytes:
    return format_datetime(datetime.fromisoformat(moment.decode()), usegmt=True).encode()


def status(request: Request, stored: Stored, *, waited: timedelta) -> Response:
    """200 with the document, or 304 for who has this version already."""
    etag = _etag_of(stored)
    headers = [*_STATUS_HEADERS, (b"etag", etag.encode())]
    if waited:
        headers.append((b"preference-applied", _applied(waited).encode()))
    if stored.terminal:
        headers.append((b"sunset", _http_date(stored.expires_at)))
    else:
        headers.append((b"retry-after", _come_back(request, stored.seen).encode()))
    if _matches(header(request, b"if-none-match"), etag):
        return Answer(HTTPStatus.NOT_MODIFIED, headers)
    return Answer(HTTPStatus.OK, [*headers, _JSON], stored.body)


def _come_back(request: Request, seen: Glance) -> str:
    usual_wait = services(request).catalogue.usual_wait(seen.queue)
    return str(look_again_in(seen, now(), usual_wait=usual_wait))


def look_again_in(seen: Glance, at: datetime, *, usual_wait: float | None = None) -> int:
    """Return after how many seconds a second look is worth it, 1 to 30.

    A quarter of what is left, where that is known, and else of the time that nothing has happened for; spread a
    little, so that those who ask do not all come back together. What is left of a job's wait is told by those before
    it: its queue is first in, first out.

    Args:
        seen: What is known of the job.
        at: When it is looked at.
        usual_wait: How many seconds jobs of its queue have waited lately.
    """
    silent = (at - seen.updated_at).total_seconds()
    if seen.status in (Status.SCHEDULED, Status.RETRYING) and seen.run_at is not None:
        wait = (seen.run_at - at).total_seconds()
    elif seen.eta is not None:
        wait = seen.eta / 4
    elif seen.status is Status.QUEUED and usual_wait is not None and usual_wait > silent:
        wait = (usual_wait - silent) / 4
    else:
        wait = silent / 4
    return max(1, min(30, round(wait * random.uniform(0.9, 1.1))))


def etag(version: int) -> str:
    """Name the version; weakly for 0, for the 202 knows more of the same job than the id alone."""
    return f'"{version}"' if version else 'W/"0"'


def _etag_of(stored: Stored) -> str:
    return f'"{stored.version}w"' if stored.waits_in_vain else etag(stored.version)


def known_version(request: Request) -> int | None:
    """Return the version that the client has, if it names one."""
    found = _ETAG.fullmatch(header(request, b"if-none-match") or "")
    return int(found[1]) if found else None


def _matches(condition: str | None, etag: str) -> bool:
    """Weak comparison (RFC 9110 §13.1.2)."""
    if condition is None or condition == etag:
        return condition is not None
    given = {one.strip().removeprefix("W/") for one in condition.split(",")}
    return etag.removeprefix("W/") in given or "*" in given


def problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Declare in OpenAPI that these statuses are answered with problems."""
    return {one: problem(HTTPStatus(one).phrase) for one in statuses}


def problem(description: str) -> dict[str, object]:
    """Describe an answer that is a problem."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
