"""The merge law (law 4), as a pure function. The tracker's Lua script does the same in Redis, held by the same tests.

A view is three registers: the event of the greatest sequence, the cancel request of the latest run, and the latest
run that is to be forgotten. Each is a join of a semilattice, so `apply` is commutative, associative and idempotent,
whatever the order and number of deliveries.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice

from milepost_contracts.envelope import peek
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import (
    AnyJobMessage,
    CancelRequest,
    CancelRequested,
    JobEvent,
    JobForgotten,
    decode_event,
)


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of one job."""

    #: The event that won; nothing while only a cancel request has been heard of.
    latest: JobEvent | None = None
    cancel: CancelRequest | None = None
    #: The run up to which the job is to be forgotten; 0 for none.
    forgotten: int = 0
    #: The lifecycle events that led there, as far as they came together, in their order: for those who listen. The
    #: law is not about them.
    steps: tuple[JobEvent, ...] = field(default=(), compare=False)

    @property
    def shown(self) -> JobEvent | None:
        """What a document is made of: the event that won, unless its run is forgotten."""
        return None if self.latest is None or self.latest.job.run <= self.forgotten else self.latest


def apply(view: View, event: AnyJobMessage) -> View:
    """Return the view with the event merged in; the same view when it says nothing new."""
    if isinstance(event, JobForgotten):
        run = event.forgotten.run
        return view if view.forgotten >= run else replace(view, forgotten=run)
    if isinstance(event, CancelRequested):
        if view.cancel is not None and cancel_key(view.cancel) >= cancel_key(event.request):
            return view
        return replace(view, cancel=event.request)
    if view.latest is not None and view.latest.sequence >= event.sequence:
        return view
    return replace(view, latest=event)


def merge(events: Iterable[AnyJobMessage]) -> dict[str, View]:
    """Fold events of any number of jobs into one view for each."""
    views: dict[str, View] = {}
    steps: dict[str, dict[str, JobEvent]] = defaultdict(dict)
    for event in events:
        views[event.subject] = apply(views.get(event.subject, View()), event)
        if isinstance(event, JobEvent) and event.lifecycle:
            steps[event.subject].setdefault(event.sequence, event)
    for job_id, told in steps.items():
        views[job_id] = replace(views[job_id], steps=tuple(told[sequence] for sequence in sorted(told)))
    return views


@dataclass(frozen=True)
class Told:
    """Messages about one job, not decoded."""

    #: Sequence and bytes of each.
    events: list[tuple[str, bytes]] = field(default_factory=list)
    #: What has no sequence.
    wishes: list[bytes] = field(default_factory=list)

    @property
    def latest(self) -> str:
        """The greatest sequence that an event claims; nothing of no events."""
        return max((sequence for sequence, _ in self.events), default="")

    def every(self) -> list[AnyJobMessage]:
        """Decode all that can be read."""
        return [*_readable(self.wishes), *_readable(body for _, body in self.events)]

    def won(self) -> list[AnyJobMessage]:
        """Decode those that the merge law lets win; much faster than to decode them all.

        What can't be read as an event of a job is left out, and the next one wins: a log holds copies of it too.
        """
        latest_first = (body for _, body in sorted(self.events, reverse=True))
        return [*_readable(self.wishes), *islice(_readable(latest_first), 1)]


def by_job(messages: Iterable[bytes]) -> dict[str, Told]:
    """Sort messages of any jobs by what they are about, without decoding them; what is no message is left out."""
    told: dict[str, Told] = defaultdict(Told)
    for body in messages:
        try:
            subject, sequence = peek(body)
        except MalformedEvent:
            continue
        if sequence is None:
            told[subject].wishes.append(body)
        else:
            told[subject].events.append((sequence, body))
    return told


def _readable(bodies: Iterable[bytes]) -> Iterator[AnyJobMessage]:
    for body in bodies:
        with suppress(MalformedEvent):
            yield decode_event(body)


def cancel_key(request: CancelRequest) -> str:
    """Sort cancel requests: a later run's wins; within a run, the first one does."""
    ticks = int(request.requested_at.timestamp() * 1000)
    return f"{request.run:04d}.{9_999_999_999_999 - ticks:013d}"
