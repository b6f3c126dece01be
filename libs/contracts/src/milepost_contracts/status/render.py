"""Renders the status document, once, from the event that the merge law chose. The bytes are served as they are."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pydantic_core

from milepost_contracts.messages.job_events import CancelRequest, JobEvent
from milepost_contracts.states import Status
from milepost_contracts.status.deadlines import start_by
from milepost_contracts.values import Attempt, FileRef, Items, Job, utc_text


def links(job_id: str) -> dict[str, str]:
    """Return the links of a job, as relative references."""
    own = f"/v1/jobs/{job_id}"
    return {"self": own, "events": f"{own}/events", "result": f"{own}/result", "cancel": f"{own}/cancel"}


def render_state(event: JobEvent, *, retention: timedelta) -> bytes:
    """Render the part of a document that follows from the latest event: a JSON object.

    `version`, `cancel_requested` and `waiting` are not in it: `assemble` adds them.
    """
    job = event.job
    ended = event.status.terminal
    return pydantic_core.to_json(
        {
            "id": job.id,
            "type": job.type,
            "queue": job.queue,
            "status": event.status,
            "run": job.run,
            "attempt": job.attempt,
            "attempts": [_attempt(attempt) for attempt in job.attempts],
            "tags": job.tags,
            "batch": job.batch,
            "progress": job.progress,
            "created_at": utc_text(job.created_at),
            "started_at": utc_text(job.started_at),
            "updated_at": utc_text(event.time),
            "finished_at": utc_text(job.finished_at),
            "run_at": utc_text(job.run_at),
            "start_by": utc_text(start_by(job)),
            "expires_at": utc_text(job.finished_at + retention if job.finished_at else None),
            "worker": job.worker,
            "params": job.params,
            "files": [_file(file) for file in job.files],
            "items": job.items,
            "result": job.result,
            "result_file": _file(job.result_file) if ended and job.result_file else None,
            "outputs": [
                {**_file(file), "url": f"/v1/jobs/{job.id}/outputs/{quote(file.name)}"}
                for file in (job.outputs if ended else ())  # the next attempt may replace them
            ],
            "error": job.error,
            "unclaimed": job.unclaimed,
            "links": links(job.id),
        }
    )


def _file(file: FileRef) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "digest": file.digest, "media_type": file.media_type}


def render_hidden(event: JobEvent) -> bytes:
    """Render the fields of a job that its next event needs, and that its document lacks or shows only in part."""
    return event.job.model_dump_json(include=_HIDDEN).encode()


def read_job(state: bytes, hidden: bytes) -> tuple[Job, datetime]:
    """Return the job that `render_state` and `render_hidden` rendered, and the time of its latest event."""
    shown = pydantic_core.from_json(state)
    job = Job.model_validate({name: shown[name] for name in _SHOWN} | pydantic_core.from_json(hidden))
    return job, datetime.fromisoformat(shown["updated_at"])


def job_of(state: bytes, hidden: bytes) -> Job:
    """Return the job alone."""
    return read_job(state, hidden)[0]


_HIDDEN = {
    *(
        "tenant",
        "sealed",
        "grant",
        "files",
        "callback_url",
        "result_file",
        "outputs",
        "delivery",
        "execution",
        "step",
        "retried",
        "redelivered",
        "quarantined",
    ),
    *("start_within", "max_runtime", "saved_state", "saved_state_file", "canceled_how", "type_version", "put_off"),
}

_SHOWN = set(Job.model_fields) - _HIDDEN


def _attempt(attempt: Attempt) -> dict[str, Any]:
    moments = {name: utc_text(getattr(attempt, name)) for name in ("started_at", "ended_at")}
    return {"number": attempt.number, "worker": attempt.worker, **moments, "why": attempt.why}


def render_cancel(request: CancelRequest) -> bytes:
    """Render the beginning of `cancel_requested`: the part that follows from the request."""
    return b'{"at":"%b"' % (utc_text(request.requested_at) or "").encode()


def render_evidence(event: JobEvent) -> bytes:
    """Render the end of `cancel_requested`: whether and how a cancel request took effect, if there is one."""
    how = event.job.canceled_how
    if event.status.terminal and event.status is not Status.CANCELED:
        return b',"effective_at":null,"how":"too-late"}'
    effective = utc_text(event.job.finished_at)
    return b',"effective_at":%b,"how":%b}' % (pydantic_core.to_json(effective), pydantic_core.to_json(how))


def cancel_requested(cancel: bytes, evidence: bytes | None = None) -> bytes:
    """Join what `render_cancel` and `render_evidence` returned; without evidence, no tracker has seen the request."""
    return cancel + (evidence or b',"effective_at":null,"how":null}')


def assemble(
    version: int, state: bytes, *, cancel_requested: bytes | None = None, waiting: bytes | None = None
) -> bytes:
    """Return the document that consists of these rendered parts."""
    head = (version, cancel_requested or b"null", waiting or b"null", state[1:])
    return b'{"version":%d,"cancel_requested":%b,"waiting":%b,%b' % head


def render_document(event: JobEvent, *, cancel: CancelRequest | None, version: int, retention: timedelta) -> bytes:
    """Render the complete document of a job, from its latest event and the cancel request of its run."""
    requested = None if cancel is None else cancel_requested(render_cancel(cancel), render_evidence(event))
    return assemble(version, render_state(event, retention=retention), cancel_requested=requested)


def render_unprojected(job_id: str, created_at: datetime) -> bytes:
    """Render the state of a job that no tracker has seen yet, from the contents of its id."""
    state: dict[str, Any] = {
        "id": job_id,
        "type": None,
        "queue": None,
        "status": Status.QUEUED,
        "run": 1,
        "attempt": 0,
        "attempts": [],
        "tags": [],
        "batch": None,
        "progress": None,
        "created_at": utc_text(created_at),
        "started_at": None,
        "updated_at": utc_text(created_at),
        "finished_at": None,
        "run_at": None,
        "start_by": None,
        "expires_at": None,
        "worker": None,
        "params": None,
        "files": [],
        "items": Items(),
        "result": None,
        "result_file": None,
        "outputs": [],
        "error": None,
        "unclaimed": False,
        "links": links(job_id),
    }
    return pydantic_core.to_json(state)
