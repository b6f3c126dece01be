"""Reads single fields of a rendered document without parsing it.

A field is found by its name in quotes, at its first place. What clients or handlers chose can't pass for one: quotes in
their text are escaped, and `params` and `result`, where anything may stand, come later.
"""

import re
from dataclasses import dataclass
from datetime import datetime

import pydantic_core

from milepost_contracts.states import Status

_FIELDS = re.compile(
    rb'.*?"queue":(?:null|"(?P<queue>[^"]+)"),"status":"(?P<status>[a-z]+)","run":(?P<run>[0-9]+),'
    rb'.*?"tags":(?P<tags>\[.*?\]),"batch":(?:null|"[0-9a-z]+"),'
    rb'"progress":(?:null|{.*?"eta_seconds":(?:null|(?P<eta>[0-9.e+-]+))})'
    rb'.*?"updated_at":"(?P<updated_at>[^"]+)"'
    rb'.*?"run_at":(?:null|"(?P<run_at>[^"]+)")',
    re.DOTALL,
)
_EXPIRES_AT = b'"expires_at":"'
_WAITING = b'"waiting":null,"links":{'


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What was read."""

    status: Status
    #: Nothing while no tracker has seen the job.
    queue: str | None
    #: Seconds that the handler expects to need from then on.
    eta: float | None
    run: int
    tags: tuple[str, ...]
    updated_at: datetime
    run_at: datetime | None


def glance(body: bytes) -> Glance:
    """Read these fields of a document that `document` has rendered."""
    found = _FIELDS.match(body)
    assert found is not None  # noqa: S101 - every document of ours has them
    text = {name: value.decode() if value else None for name, value in found.groupdict().items()}
    return Glance(
        status=Status(text["status"] or ""),
        queue=text["queue"],
        eta=float(text["eta"]) if text["eta"] else None,
        run=int(text["run"] or 1),
        tags=tuple(pydantic_core.from_json(found["tags"])),
        updated_at=datetime.fromisoformat(text["updated_at"] or ""),
        run_at=datetime.fromisoformat(text["run_at"]) if text["run_at"] else None,
    )


def expires_at(body: bytes) -> bytes:
    """Return when a job that has ended is forgotten, as its document has it."""
    at = body.index(_EXPIRES_AT) + len(_EXPIRES_AT)
    return body[at : body.index(b'"', at)]


def with_waiting(body: bytes, waiting: bytes) -> bytes:
    """Say in a document why its job waits; nothing chosen by others stands behind that field."""
    before, mark, after = body.rpartition(_WAITING)
    return before + mark.replace(b"null", waiting, 1) + after if mark else body
