"""The fields of a job that the gateway needs. The tracker stores them beside the document, so that it is not parsed."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import pydantic_core

from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.states import Status
from milepost_contracts.values import utc_text


class Summary(NamedTuple):
    """The fields of a document that the gateway reads."""

    status: Status
    #: `None` until a tracker has seen the job.
    queue: str | None
    run: int
    tags: tuple[str, ...]
    #: Seconds that the handler expects to need from `updated_at` on.
    eta: float | None
    updated_at: datetime
    run_at: datetime | None
    #: When the document expires; known once the job has ended.
    expires_at: datetime | None


def summarize(event: JobEvent, *, retention: timedelta) -> Summary:
    """Return the summary of the document that is rendered from this event."""
    job = event.job
    return Summary(
        status=event.status,
        queue=job.queue,
        run=job.run,
        tags=job.tags,
        eta=job.progress.eta_seconds if job.progress else None,
        updated_at=event.time,
        run_at=job.run_at,
        expires_at=job.finished_at + retention if job.finished_at else None,
    )


def unprojected_summary(created_at: datetime) -> Summary:
    """Return the summary of an id that was issued and that no tracker has seen yet."""
    return Summary(Status.QUEUED, None, 1, (), None, created_at, None, None)


def render_summary(summary: Summary) -> bytes:
    """Render a summary as a JSON array, without the status: that is stored by itself."""
    _, queue, run, tags, eta, *moments = summary
    return pydantic_core.to_json([queue, run, tags, eta, *(utc_text(moment) for moment in moments)])


@lru_cache(maxsize=10_000)
def read_summary(status: Status, rendered: bytes) -> Summary:
    """Return what `render_summary` rendered. Cached: most polls find a job that has not changed."""
    queue, run, tags, eta, *moments = pydantic_core.from_json(rendered)
    updated_at, run_at, expires_at = (datetime.fromisoformat(text) if text else None for text in moments)
    assert updated_at is not None  # noqa: S101 - every document has one
    return Summary(status, queue, run, tuple(tags), eta, updated_at, run_at, expires_at)
