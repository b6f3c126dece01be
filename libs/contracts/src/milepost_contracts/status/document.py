"""The status document: what `GET /v1/jobs/{id}` returns, as clients read it."""

from typing import Literal

from pydantic import AwareDatetime, JsonValue

from milepost_contracts.states import Status
from milepost_contracts.values import Attempt, Items, JobError, Progress, Value

DEAD_LETTERED = "dead_lettered"
"""The error kind of a dead-lettered job, which can be redriven."""


class FileInfo(Value):
    """A file that was submitted with the job, or its result file."""

    name: str
    size: int
    """Bytes."""
    digest: str | None
    """SHA-256 of the bytes, in hex."""
    media_type: str | None


class OutputInfo(FileInfo):
    """A file that the handler wrote."""

    url: str
    """Where it can be downloaded, as a relative reference."""


class CancelInfo(Value):
    """A cancel request, and when and how it took effect."""

    at: AwareDatetime
    """When the cancel was requested."""
    effective_at: AwareDatetime | None
    """When the job was canceled; null if it was not."""
    how: Literal["before-start", "cooperative", "forced", "too-late"] | None
    """How the job ended: before its start, at the handler's next report, by force, or by itself before that."""


class JobDocument(Value):
    """The status document, as clients read it."""  # `render` writes it, field by field

    id: str
    version: int
    """Grows with every change of the document; it is the ETag."""
    type: str | None
    """Null until a tracker has seen the job, because the id does not contain it; so are `queue` and `params`."""
    queue: str | None
    status: Status
    run: int
    attempt: int
    attempts: tuple[Attempt, ...]
    """The latest attempts, oldest first."""
    tags: tuple[str, ...]
    batch: str | None
    """The batch that the job was submitted in."""
    progress: Progress | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None
    run_at: AwareDatetime | None
    """When a scheduled or retrying job is delivered to its queue."""
    start_by: AwareDatetime | None
    """When the job expires, if it has not started by then."""
    expires_at: AwareDatetime | None
    """When the document is deleted; known once the job has ended."""
    worker: str | None
    params: dict[str, JsonValue] | None
    """Secret ones are masked: `**********`."""
    files: tuple[FileInfo, ...]
    items: Items
    result: JsonValue
    result_file: FileInfo | None
    """The result as a download, if it is larger than 64 KiB or not JSON; `result` is null then."""
    outputs: tuple[OutputInfo, ...]
    """The other files that can be downloaded, once the job has ended."""
    error: JobError | None
    cancel_requested: CancelInfo | None
    unclaimed: bool
    """Whether the job ran without a claim, because Redis did not answer."""
    waiting: JsonValue
    """Why the job waits, if known."""
    links: dict[str, str]
