"""The request and response headers, as each route describes them in the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

LOCATION = ("Location", "Operation-Location", "Link")
"""The response headers with the URLs of a job and of its stream."""
_TEXT = {"type": "string"}
_URL = {"type": "string", "format": "uri"}
_SENT: Mapping[str, dict[str, Any]] = {
    "Location": {"description": "The absolute URL to read next", "schema": _URL},
    "Operation-Location": {"description": "The same URL, for generic clients", "schema": _URL},
    "Content-Location": {"description": "URL of the job in this body", "schema": _URL},
    "Link": {"description": 'The URL of the job\'s events: `rel="monitor"`', "schema": _TEXT},
    "Retry-After": {
        "description": "Seconds to wait before the next request",
        "schema": {"type": "integer", "minimum": 1, "maximum": 30},
    },
    "ETag": {"description": "The version of the document", "schema": _TEXT},
    "Sunset": {"description": "When the job expires (RFC 8594)", "schema": _TEXT},
    "Preference-Applied": {"description": "The longest wait that the gateway applied", "schema": _TEXT},
}
_READ: Mapping[str, dict[str, Any]] = {
    "Prefer": {
        "description": "`wait=N`: wait up to N seconds for the answer, at most 30 (RFC 7240)",
        "schema": _TEXT,
        "example": "wait=5",
    },
    "Idempotency-Key": {
        "description": "A repeat with the same key submits no second job, within a day or a quarter of the retention",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": '"8e03978e-40d5"',
    },
    "If-None-Match": {"description": "The version that the client has", "schema": _TEXT, "example": '"1250"'},
    "Range": {"description": "The requested bytes", "schema": _TEXT, "example": "bytes=0-1023"},
    "Last-Event-ID": {"description": "Resumes the stream after this event", "schema": _TEXT, "example": "1250"},
}


def sent(*names: str) -> dict[str, Any]:
    """Return the part of an OpenAPI response that describes these headers."""
    return {"headers": {name: _SENT[name] for name in names}}


def read(*names: str) -> dict[str, Any]:
    """Return the part of an OpenAPI operation that describes these request headers.

    They are no parameters of the route's function: FastAPI would parse each of them for every request.
    """
    return {"parameters": [{"name": name, "in": "header", **_READ[name]} for name in names]}
