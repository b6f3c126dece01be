"""What a client asks for beside the request itself: `Prefer` (RFC 7240), and the form of an answer (`Accept`)."""

import re
from datetime import timedelta
from enum import Enum

from fastapi import Request

NO_WAIT = timedelta(0)
LONGEST_WAIT = timedelta(seconds=30)
_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)
_QUALITY = re.compile(r";?\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)


class Form(Enum):
    """How events are told, by its media type."""

    SSE = "text/event-stream"
    NDJSON = "application/x-ndjson"


def wait(request: Request) -> timedelta:
    """Return how long the client wants to wait for an answer, at most half a minute; what can't be read is ignored."""
    for name, value in request.scope["headers"]:
        if name == b"prefer":
            for preference in value.decode("latin-1").split(","):
                if found := _WAIT.fullmatch(preference):
                    return min(LONGEST_WAIT, timedelta(seconds=int(found[1])))
    return NO_WAIT


def form(request: Request) -> Form | None:
    """Return the form of a stream, if the client asks for one by name and likes no JSON as much (RFC 9110 §12.5.1)."""
    accepted = ",".join(value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept")
    liked: dict[str, float] = {}
    for one in accepted.split(",") if accepted else ():
        kind, _, parameters = one.partition(";")
        found = _QUALITY.search(parameters)
        liked.setdefault(kind.strip().lower(), float(found[1]) if found else 1.0)
    if not liked:
        return None
    best = max(Form, key=lambda one: liked.get(one.value, 0.0))
    return best if liked.get(best.value, 0.0) > liked.get("application/json", 0.0) else None
