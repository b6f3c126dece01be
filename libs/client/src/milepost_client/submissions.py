"""What is handed over, and what became of many of them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pydantic_core
from pydantic import BaseModel

from milepost_client.errors import in_words
from milepost_contracts.problems import Problem
from milepost_contracts.states import Status
from milepost_contracts.values import Value

MOST_AT_ONCE = 1_000
"""Jobs that a gateway takes in one request."""
LARGEST_REQUEST = 4 * 1024 * 1024
"""Bytes; a gateway takes twice as many."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to be handed over."""

    #: One of the announced job types.
    type: str
    #: What its schema asks for: a mapping, or a pydantic model.
    params: Mapping[str, Any] | BaseModel | None = None
    #: Words of your own.
    tags: Sequence[str] = ()
    #: Not before this time; with a time zone.
    run_at: datetime | None = None
    #: Not before so long from now; either this or `run_at`.
    delay: timedelta | None = None
    #: How long the job may wait to be started from then on; 7 days by default.
    expires_in: timedelta | None = None
    #: Where its end is to be told, by a webhook.
    callback_url: str | None = None

    def body(self) -> dict[str, Any]:
        """Return it as the gateway reads it.

        Raises:
            ValueError: Its params have no JSON form.
        """
        told: dict[str, Any] = {"type": self.type, "params": _plain(self.params), "tags": list(self.tags)}
        if self.run_at is not None:
            told["run_at"] = self.run_at.isoformat()
        if self.callback_url is not None:
            told["callback_url"] = self.callback_url
        for name, length in (("delay", self.delay), ("expires_in", self.expires_in)):
            if length is not None:
                told[name] = length.total_seconds()
        return told


def _plain(params: Mapping[str, Any] | BaseModel | None) -> Any:
    return pydantic_core.to_jsonable_python(params if isinstance(params, BaseModel) else dict(params or {}))


@dataclass(frozen=True)
class Refusal:
    """A job of many that was not accepted."""

    #: Which one, counted from 0.
    index: int
    problem: Problem

    def __str__(self) -> str:
        return f"{self.index}: {in_words(self.problem)}"


@dataclass(frozen=True, kw_only=True)
class GroupStatus:
    """How far many jobs are."""

    #: How many were accepted.
    size: int
    #: How many are in each state.
    counts: Mapping[Status, int]
    #: Of how many nothing is kept any more.
    forgotten: int = 0

    @property
    def ended(self) -> int:
        """How many have ended, one way or another."""
        return sum(count for status, count in self.counts.items() if status.terminal)

    @property
    def percent(self) -> float:
        """How many have ended, of a hundred."""
        return 100 * self.ended / self.size if self.size else 100.0

    @property
    def done(self) -> bool:
        """Whether all have ended, as far as anything is kept of them."""
        return self.ended + self.forgotten >= self.size


class BatchItem(Value):
    """What became of one job."""

    job_id: str | None = None
    problem: Problem | None = None


class HandedOver(Value):
    """The gateway's answer to many jobs."""

    id: str | None
    items: tuple[BatchItem, ...]

    @property
    def to_repeat(self) -> bool:
        """Whether some were not taken that another request would hand over."""
        return any(item.problem is not None and item.problem.status >= 500 for item in self.items)  # noqa: PLR2004


class Batch(Value):
    """The gateway's answer to who asks for many jobs."""

    size: int
    counts: dict[Status, int]


def in_requests(submissions: Iterable[Submission]) -> Iterator[list[bytes]]:
    """Yield the bodies of as many jobs as a gateway takes in one request."""
    some: list[bytes] = []
    size = 0
    for one in submissions:
        body = json.dumps(one.body(), allow_nan=False).encode()
        if some and (len(some) == MOST_AT_ONCE or size + len(body) > LARGEST_REQUEST):
            yield some
            some, size = [], 0
        some.append(body)
        size += len(body)
    if some:
        yield some
