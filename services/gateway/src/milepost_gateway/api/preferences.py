"""What a client asks for beside the request itself: `Prefer` (RFC 7240), and the form of an answer (`Accept`)."""

import re
from datetime import timedelta
from enum import Enum

from fastapi import Request

LONGEST_WAIT = timedelta(seconds=30)
_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)


class Form(Enum):
    """How events are told, by its media type."""

    SSE = "text/event-stream"
    NDJSON = "application/x-ndjson"


def wait(request: Request) -> timedelta:
    """Return how long the client wants to wait for an answer, at most half a minute; what can't be read is ignored."""
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        if found := _WAIT.fullmatch(preference):
            return min(LONGEST_WAIT, timedelta(seconds=int(found[1])))
    return timedelta(0)


def form(request: Request) -> Form | None:
    """Return the form of a stream that the client asks for by name; the first one, if it names both."""
    accepted = [one.partition(";")[0].strip().lower() for one in request.headers.get("accept", "").split(",")]
    named = [Form(one) for one in accepted if one in {form.value for form in Form}]
    return named[0] if named else None
