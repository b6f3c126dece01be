"""The merge law (law 4), as a pure function. The tracker's Lua script does the same in Redis; one suite tests both.

A view is three registers: the event of the greatest sequence, the cancel request of the latest run, and the latest
deleted run. Each is a join of a semilattice, so `apply` is commutative, associative and idempotent, whatever the order
and number of deliveries.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import itemgetter

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.cloudevent import peek
from milepost_contracts.messages.job_events import (
    AnyJobMessage,
    CancelRequest,
    CancelRequested,
    JobDeleted,
    JobEvent,
)
from milepost_contracts.messages.received import Received

Decode = Callable[[Received], AnyJobMessage]
"""Decodes a message; raises `MalformedEvent` for one that is not believed."""

_LAST_TICK = 9_999_999_999_999
"""The last millisecond since 1970 that a cancel key can hold."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of one job."""

    #: The event of the greatest sequence; nothing while only a request has arrived.
    latest: JobEvent | None = None
    cancel: CancelRequest | None = None
    #: The run up to which the job was deleted; 0 for none.
    deleted_run: int = 0
    #: The lifecycle events of the same batch, in the order of their sequences: streams send them. The law does not
    #: depend on them.
    history: tuple[JobEvent, ...] = field(default=(), compare=False)

    @property
    def shown(self) -> JobEvent | None:
        """The event that the document is rendered from: the latest one, unless its run was deleted."""
        return None if self.latest is None or self.latest.job.run <= self.deleted_run else self.latest


def apply(view: View, event: AnyJobMessage) -> View:
    """Return the view with the event merged in; the same view if the event changes nothing."""
    if isinstance(event, JobDeleted):
        run = event.request.run
        return view if view.deleted_run >= run else replace(view, deleted_run=run)
    if isinstance(event, CancelRequested):
        if view.cancel is not None and cancel_key(view.cancel) >= cancel_key(event.request):
            return view
        return replace(view, cancel=event.request)
    if view.latest is not None and view.latest.sequence >= event.sequence:
        return view
    return replace(view, latest=event)


def merge(events: Iterable[AnyJobMessage]) -> dict[str, View]:
    """Merge events of any number of jobs into one view for each."""
    views: dict[str, View] = {}
    lifecycle: dict[str, dict[str, JobEvent]] = defaultdict(dict)
    for event in events:
        views[event.subject] = apply(views.get(event.subject, View()), event)
        if isinstance(event, JobEvent) and event.lifecycle:
            lifecycle[event.subject].setdefault(event.sequence, event)
    for job_id, by_sequence in lifecycle.items():
        history = tuple(by_sequence[sequence] for sequence in sorted(by_sequence))
        views[job_id] = replace(views[job_id], history=history)
    return views


@dataclass(frozen=True)
class RawMessages:
    """Messages about one job that are not decoded yet."""

    #: Sequence and message of each event.
    events: list[tuple[str, Received]] = field(default_factory=list)
    #: Messages without a sequence.
    requests: list[Received] = field(default_factory=list)

    @property
    def latest(self) -> str:
        """The greatest sequence of the events; empty if there is none."""
        return max((sequence for sequence, _ in self.events), default="")

    def all_readable(self, decode: Decode) -> list[AnyJobMessage]:
        """Decode all messages that can be decoded."""
        return [*_readable(self.requests, decode), *_readable((message for _, message in self.events), decode)]

    def winning(self, decode: Decode) -> list[AnyJobMessage]:
        """Decode the requests and the event of the greatest sequence; much faster than decoding them all.

        An event that `decode` refuses is skipped in favour of the next one: the log may hold forged ones.
        """
        latest_first = (message for _, message in sorted(self.events, key=itemgetter(0), reverse=True))
        return [*_readable(self.requests, decode), *islice(_readable(latest_first, decode), 1)]


def by_job(messages: Iterable[Received]) -> dict[str, RawMessages]:
    """Group messages by their job without decoding them; bodies that are no messages are left out."""
    grouped: dict[str, RawMessages] = defaultdict(RawMessages)
    for message in messages:
        try:
            subject, sequence = peek(message.body)
        except MalformedEvent:
            continue
        if sequence is None:
            grouped[subject].requests.append(message)
        else:
            grouped[subject].events.append((sequence, message))
    return grouped


def _readable(messages: Iterable[Received], decode: Decode) -> Iterator[AnyJobMessage]:
    for message in messages:
        with suppress(MalformedEvent):
            yield decode(message)


def cancel_key(request: CancelRequest) -> str:
    """Return the sort key of a cancel request: a later run wins; within a run, the first request."""
    ticks = int(request.requested_at.timestamp() * 1000)
    return f"{request.run:04d}.{_LAST_TICK - ticks:013d}"


def requested_at(key: str) -> datetime:
    """Return the time of the request with this sort key, in milliseconds."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=_LAST_TICK - int(key[5:]))
