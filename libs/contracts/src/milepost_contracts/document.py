"""The status document: what `GET /v1/jobs/{id}` returns. A pure function of the view, rendered once, by the tracker."""

from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

import pydantic_core
from pydantic import AwareDatetime, JsonValue

from milepost_contracts.events import CancelRequest, JobEvent, JobFailed
from milepost_contracts.states import Status
from milepost_contracts.values import START_WITHIN, Attempt, FileRef, Items, Job, JobError, Progress, Value, utc_text

GIVEN_UP = "dead_lettered"
"""The kind of error of a job that the broker gave up: it can be redriven."""
SPEAK_WITHIN = timedelta(seconds=30)
"""How long after a deadline somebody may still speak of a job before it counts as lost."""
STARTED_IS_TOLD_WITHIN = timedelta(seconds=5)
"""How long after a job's last moment to be started it may take to hear that it was."""


class FileInfo(Value):
    """A file that came with the job, or its result."""

    name: str
    #: Bytes.
    size: int
    #: SHA-256 of the bytes, in hex.
    digest: str | None
    media_type: str | None


class OutputInfo(FileInfo):
    """A file that the handler wrote."""

    #: Where it can be downloaded, as a relative reference.
    url: str


class CancelInfo(Value):
    """That somebody asked to cancel the job, and what came of it."""

    #: When it was asked.
    at: AwareDatetime
    #: When the job ended, if it has.
    effective_at: AwareDatetime | None
    #: How it ended: before it had started, at the handler's next report, by force, or by itself before that.
    how: Literal["before-start", "cooperative", "forced", "too-late"] | None


class JobDocument(Value):
    """The status document, as clients read it."""  # the renderers below write it, field by field

    id: str
    #: Grows with every change of the document; it is the ETag.
    version: int
    #: Nothing while no tracker has seen the job; the id alone does not know it. So also with `queue` and `params`.
    type: str | None
    queue: str | None
    status: Status
    run: int
    attempt: int
    #: The latest attempts, oldest first.
    attempts: tuple[Attempt, ...]
    tags: tuple[str, ...]
    #: The batch that the job came with.
    batch: str | None
    progress: Progress | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None
    #: When a scheduled or retrying job is delivered to its queue.
    run_at: AwareDatetime | None
    #: When the job ends as expired, if nobody has started it by then.
    start_by: AwareDatetime | None
    #: When the document is forgotten; known once the job has ended.
    expires_at: AwareDatetime | None
    worker: str | None
    params: dict[str, JsonValue] | None
    files: tuple[FileInfo, ...]
    items: Items
    result: JsonValue
    #: What can be downloaded as the result, where it is larger than 64 KiB or no JSON; `result` is nothing then.
    result_file: FileInfo | None
    #: What can be downloaded beside it, once the job has ended.
    outputs: tuple[OutputInfo, ...]
    error: JobError | None
    cancel_requested: CancelInfo | None
    #: Whether the job ran without the gate's word, because Redis was away.
    ungated: bool
    #: Why the job waits, where somebody knows.
    waiting: JsonValue
    links: dict[str, str]


def links(job_id: str) -> dict[str, str]:
    """Where the job can be followed, as relative references."""
    own = f"/v1/jobs/{job_id}"
    return {"self": own, "events": f"{own}/events", "result": f"{own}/result", "cancel": f"{own}/cancel"}


def render_state(event: JobEvent, *, retention: timedelta) -> bytes:
    """Render all of a document that follows from the winning event: a JSON object. `glance` knows the order of fields.

    `version` and `cancel_requested` are not in it: `assemble` adds them.
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
            "result_file": None if job.result_file is None else _file(job.result_file),
            "outputs": [
                {**_file(file), "url": f"/v1/jobs/{job.id}/outputs/{quote(file.name)}"} for file in job.outputs
            ],
            "error": job.error,
            "ungated": job.ungated,
            "waiting": None,
            "links": links(job.id),
        }
    )


def _file(file: FileRef) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "digest": file.digest, "media_type": file.media_type}


def start_by(job: Job) -> datetime:
    """When the job ends as expired, unless somebody has started it. A `run_at` of long ago counts for nothing."""
    return max(job.run_at or job.created_at, job.created_at) + job.start_within


def expired(job: Job) -> JobFailed:
    """Build the end of a job that nobody has started in time.

    It follows from the job as it was handed over: tracker and processors that come to it say the same, and of what is
    the same the first counts.
    """
    seconds = job.start_within.total_seconds()
    error = JobError(kind="expired", message=f"nobody started the job within {seconds:g} s")
    return JobFailed(job=job.model_copy(update={"finished_at": start_by(job), "error": error}), time=start_by(job))


def never_begun(job: Job) -> bool:
    """Whether nobody has started the job, as far as this message of it knows."""
    return not (job.attempts or job.attempt or job.quarantined)


def patience(event: JobEvent) -> timedelta | None:
    """How long after this event somebody must have spoken of the job again; nothing once it has ended.

    A length, from two times of one clock, so that it is true on every clock.
    """
    job = event.job
    if event.status.terminal:
        return None
    if event.status is Status.RUNNING:
        left = (job.started_at or event.time) - event.time + job.max_runtime
        return max(timedelta(0), left) + SPEAK_WITHIN
    waits = max(timedelta(0), (job.run_at or event.time) - event.time)
    # Whoever asked for a job to be started in time asked for its first start.
    if never_begun(job):
        return waits + job.start_within + STARTED_IS_TOLD_WITHIN
    return waits + max(job.start_within, START_WITHIN) + SPEAK_WITHIN


def render_hidden(event: JobEvent) -> bytes:
    """Render what a document does not show of its job, and what is needed to speak of the job again."""
    return event.job.model_dump_json(include=_HIDDEN).encode()


def told_of(state: bytes, hidden: bytes) -> tuple[Job, datetime]:
    """Put the job together again from what `render_state` and `render_hidden` made of it; and when that was told."""
    shown = pydantic_core.from_json(state)
    job = Job.model_validate({name: shown[name] for name in _SHOWN} | pydantic_core.from_json(hidden))
    return job, datetime.fromisoformat(shown["updated_at"])


def job_of(state: bytes, hidden: bytes) -> Job:
    """The same, without the time."""
    return told_of(state, hidden)[0]


_HIDDEN = {
    *(
        "tenant",
        "files",
        "callback_url",
        "result_file",
        "outputs",
        "turn",
        "execution",
        "step",
        "retried",
        "redelivered",
        "quarantined",
    ),
    *("start_within", "max_runtime", "saved_state", "canceled_how"),
}
_SHOWN = set(Job.model_fields) - _HIDDEN


def _attempt(attempt: Attempt) -> dict[str, Any]:
    moments = {name: utc_text(getattr(attempt, name)) for name in ("started_at", "ended_at")}
    return {"number": attempt.number, "worker": attempt.worker, **moments, "why": attempt.why}


def render_cancel(request: CancelRequest) -> bytes:
    """Render the beginning of `cancel_requested`; `render_evidence` renders its end."""
    return b'{"at":"%b"' % (utc_text(request.requested_at) or "").encode()


def render_evidence(event: JobEvent) -> bytes:
    """Render what came of a cancel request, should there be one: the end of `cancel_requested`."""
    how = event.job.canceled_how
    if event.status.terminal and event.status is not Status.CANCELED:
        return b',"effective_at":null,"how":"too-late"}'
    effective = utc_text(event.job.finished_at)
    return b',"effective_at":%b,"how":%b}' % (pydantic_core.to_json(effective), pydantic_core.to_json(how))


NO_EVIDENCE = b',"effective_at":null,"how":null}'


def assemble(version: int, state: bytes, cancel: bytes | None, evidence: bytes | None) -> bytes:
    """Put a document together from its parts."""
    requested = b"null" if not cancel else cancel + (evidence or NO_EVIDENCE)
    return b'{"version":%d,"cancel_requested":%b,%b' % (version, requested, state[1:])


def with_cancel_request(body: bytes, request: CancelRequest) -> bytes:
    """Add a request to a document that has none: what it will say once a tracker has seen the request."""
    requested = render_cancel(request) + NO_EVIDENCE
    return body.replace(b'"cancel_requested":null', b'"cancel_requested":' + requested, 1)


def render(event: JobEvent, *, cancel: CancelRequest | None, version: int, retention: timedelta) -> bytes:
    """Render the document of a view."""
    requested = None if cancel is None else render_cancel(cancel)
    return assemble(version, render_state(event, retention=retention), requested, render_evidence(event))


def accepted(event: JobEvent, *, retention: timedelta) -> bytes:
    """The document of a job that was just accepted: version 0, before any tracker has seen it."""
    return render(event, cancel=None, version=0, retention=retention)


def unprojected(job_id: str, created_at: datetime) -> bytes:
    """The document of an id that was issued and that no tracker has spoken of yet: what the id itself proves."""
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
        "ungated": False,
        "waiting": None,
        "links": links(job_id),
    }
    return assemble(0, pydantic_core.to_json(state), None, None)


def quoted(text: str) -> str:
    """Render a string as JSON."""
    return pydantic_core.to_json(text).decode()
