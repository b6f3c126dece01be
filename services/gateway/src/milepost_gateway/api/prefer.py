"""The preferences of a request: how long to wait (`Prefer`, RFC 7240), and the format of a stream (`Accept`)."""

import re
from datetime import timedelta
from enum import Enum

from fastapi import Request

NO_WAIT = timedelta(0)
MAX_WAIT = timedelta(seconds=30)
_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)
_QUALITY = re.compile(r";?\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)


class StreamFormat(Enum):
    """The format of a stream, by its media type."""

    SSE = "text/event-stream"
    NDJSON = "application/x-ndjson"


def wait(request: Request) -> timedelta:
    """Return how long the client wants to wait for an answer, at most 30 s; a malformed preference is ignored."""
    for name, value in request.scope["headers"]:
        if name == b"prefer":
            for preference in value.decode("latin-1").split(","):
                if found := _WAIT.fullmatch(preference):
                    return min(MAX_WAIT, timedelta(seconds=int(found[1])))
    return NO_WAIT


def form(request: Request) -> StreamFormat | None:
    """Return the format of a stream, if the client accepts it by name and prefers it to JSON (RFC 9110 §12.5.1)."""
    accepted = ",".join(value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept")
    qualities: dict[str, float] = {}
    for one in accepted.split(",") if accepted else ():
        kind, _, parameters = one.partition(";")
        found = _QUALITY.search(parameters)
        qualities.setdefault(kind.strip().lower(), float(found[1]) if found else 1.0)
    if not qualities:
        return None
    best = max(StreamFormat, key=lambda one: qualities.get(one.value, 0.0))
    return best if qualities.get(best.value, 0.0) > qualities.get("application/json", 0.0) else None
