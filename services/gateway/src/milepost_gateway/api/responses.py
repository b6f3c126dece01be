"""Headers of a status: what generic polling clients and caches go by."""

import re
from datetime import timedelta

from fastapi import Request
from fastapi.responses import Response

from milepost_contracts.problems import MEDIA_TYPE, Problem
from milepost_gateway.ports import Stored

LIVE_RETRY_AFTER = "1"
_ETAG = re.compile(r'\s*(?:W/)?"(\d{1,15})"\s*')
STATUS_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Prefer"}


def accepted(request: Request, job_id: str, body: bytes, *, version: int = 0) -> Response:
    """202: where to look, and when."""
    headers = {
        **STATUS_HEADERS,
        **locations(request, job_id),
        "Retry-After": LIVE_RETRY_AFTER,
        "ETag": etag(version),
    }
    return Response(body, status_code=202, media_type="application/json", headers=headers)


def locations(request: Request, job_id: str) -> dict[str, str]:
    """Say where the job can be looked at, and followed."""
    location = str(request.url_for("get_job", job_id=job_id))
    events = str(request.url_for("follow_job", job_id=job_id))
    return {
        "Location": location,
        "Operation-Location": location,
        "Link": f'<{events}>; rel="monitor"; type="text/event-stream"',
    }


def done(request: Request, job_id: str, stored: Stored, waited: timedelta) -> Response:
    """200: the job that was handed over has ended already."""
    headers = {
        **STATUS_HEADERS,
        **locations(request, job_id),
        "Content-Location": str(request.url_for("get_job", job_id=job_id)),
        "Preference-Applied": _applied(waited),
        "ETag": etag(stored.version),
    }
    return Response(stored.body, media_type="application/json", headers=headers)


def _applied(waited: timedelta) -> str:
    return f"wait={waited.total_seconds():g}"


def status(request: Request, stored: Stored, *, waited: timedelta) -> Response:
    """200 with the document, or 304 for who has this version already."""
    headers = {**STATUS_HEADERS, "ETag": etag(stored.version)}
    if waited:
        headers["Preference-Applied"] = _applied(waited)
    if not stored.terminal:
        headers["Retry-After"] = LIVE_RETRY_AFTER
    if _matches(request.headers.get("if-none-match"), stored.version):
        return Response(status_code=304, headers=headers)
    return Response(stored.body, media_type="application/json", headers=headers)


def etag(version: int) -> str:
    """Name the version; weakly for 0, for the 202 knows more of the same job than the id alone."""
    return f'"{version}"' if version else 'W/"0"'


def known_version(request: Request) -> int | None:
    """Return the version that the client has, if it names one."""
    found = _ETAG.fullmatch(request.headers.get("if-none-match", ""))
    return int(found[1]) if found else None


def _matches(condition: str | None, version: int) -> bool:
    """Weak comparison (RFC 9110 §13.1.2)."""
    if condition is None:
        return False
    given = {one.strip().removeprefix("W/") for one in condition.split(",")}
    return f'"{version}"' in given or "*" in given


def problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Declare in OpenAPI that these statuses are answered with problems."""
    return {
        one: {"model": Problem, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for one in statuses
    }
