"""The status document: what `GET /v1/jobs/{id}` returns. A pure function of the view, rendered once, by the tracker."""

from datetime import datetime, timedelta
from typing import Any

import pydantic_core
from pydantic import AwareDatetime, JsonValue

from milepost_contracts.events import CancelRequest, JobEvent
from milepost_contracts.states import Status
from milepost_contracts.values import Items, JobError, Progress, Value, utc_text


class FileInfo(Value):
    """A file that came with the job."""

    name: str
    #: Bytes.
    size: int


class CancelInfo(Value):
    """That somebody asked to cancel the job."""

    at: AwareDatetime


class JobDocument(Value):
    """The status document, as clients read it. The renderers below write it, field by field."""

    id: str
    #: Grows with every change of the document; it is the ETag.
    version: int
    #: Nothing while no tracker has seen the job; the id alone does not know it. So also with `queue` and `params`.
    type: str | None
    queue: str | None
    status: Status
    run: int
    attempt: int
    tags: tuple[str, ...]
    progress: Progress | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None
    #: When the document is forgotten; known once the job has ended.
    expires_at: AwareDatetime | None
    worker: str | None
    params: dict[str, JsonValue] | None
    files: tuple[FileInfo, ...]
    items: Items
    result: JsonValue
    error: JobError | None
    cancel_requested: CancelInfo | None
    #: Whether the job ran without the gate's word, because Redis was away.
    ungated: bool
    #: Why the job waits, where somebody knows.
    waiting: JsonValue
    links: dict[str, str]


def links(job_id: str) -> dict[str, str]:
    """Where the job can be followed, as relative references."""
    return {"self": f"/v1/jobs/{job_id}"}


def render_state(event: JobEvent, *, retention: timedelta) -> bytes:
    """Render all of a document that follows from the winning event: a JSON object.

    `version` and `cancel_requested` are not in it: `assemble` adds them, here or inside the Lua script.
    """
    job = event.job
    return pydantic_core.to_json(
        {
            "id": job.id,
            "type": job.type,
            "queue": job.queue,
            "status": event.status,
            "run": job.run,
            "attempt": job.attempt,
            "tags": job.tags,
            "progress": job.progress,
            "created_at": utc_text(job.created_at),
            "started_at": utc_text(job.started_at),
            "updated_at": utc_text(event.time),
            "finished_at": utc_text(job.finished_at),
            "expires_at": utc_text(job.finished_at + retention if job.finished_at else None),
            "worker": job.worker,
            "params": job.params,
            "files": [{"name": file.name, "size": file.size} for file in job.files],
            "items": job.items,
            "result": job.result,
            "error": job.error,
            "ungated": job.ungated,
            "waiting": None,
            "links": links(job.id),
        }
    )


def render_cancel(request: CancelRequest | None) -> bytes:
    if request is None:
        return b"null"
    return pydantic_core.to_json({"at": utc_text(request.requested_at)})


def assemble(version: int, state: bytes, cancel: bytes) -> bytes:
    """Put a document together from its parts, exactly as the tracker's Lua script does."""
    return b'{"version":%d,"cancel_requested":%b,%b' % (version, cancel, state[1:])


def accepted(event: JobEvent, *, retention: timedelta) -> bytes:
    """The document of a job that was just accepted: version 0, before any tracker has seen it."""
    return assemble(0, render_state(event, retention=retention), b"null")


def unprojected(job_id: str, created_at: datetime) -> bytes:
    """The document of an id that was issued and that no tracker has spoken of yet: what the id itself proves."""
    fields: dict[str, Any] = dict.fromkeys(
        ("type", "queue", "progress", "started_at", "finished_at", "expires_at", "worker", "params", "result")
    )
    fields |= dict.fromkeys(("error", "waiting"))
    state = {
        "id": job_id,
        "status": Status.QUEUED,
        "run": 1,
        "attempt": 0,
        "tags": [],
        "created_at": utc_text(created_at),
        "updated_at": utc_text(created_at),
        "files": [],
        "items": Items(),
        "ungated": False,
        "links": links(job_id),
        **fields,
    }
    return assemble(0, pydantic_core.to_json(state), b"null")


def quoted(text: str) -> str:
    """Render a string as JSON."""
    return pydantic_core.to_json(text).decode()
