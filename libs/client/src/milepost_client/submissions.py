"""Submissions, and the results of submitting many jobs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pydantic_core
from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter

from milepost_client.arguments import Duration, aware, seconds, several
from milepost_client.errors import describe
from milepost_contracts.http.problems import Problem
from milepost_contracts.states import Status
from milepost_contracts.values import Value

MAX_REQUEST_JOBS = 1_000
"""Maximum number of jobs in one request."""
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Maximum size of the jobs in one request, in bytes; the gateway accepts twice as many."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to submit.

    Raises:
        TypeError: `tags` is a single text, `run_at` has no time zone, or a duration is neither `timedelta` nor number.
    """

    #: One of the announced job types.
    type: str
    #: The params, valid for the type's schema: a mapping, or a pydantic model.
    params: Mapping[str, Any] | BaseModel | None = None
    #: Tags to find the job by.
    tags: Sequence[str] = ()
    #: Do not start the job before this time; with a time zone.
    run_at: datetime | None = None
    #: Do not start the job before this much time has passed; either this or `run_at`. A `timedelta` or seconds, as
    #: `expires_in`.
    delay: Duration | None = None
    #: How long the job may wait to start, from `run_at` or the end of `delay`; 7 days by default. Then it fails.
    expires_in: Duration | None = None
    #: URL that receives a webhook when the job ends.
    callback_url: str | None = None

    def __post_init__(self) -> None:
        several("tags", self.tags)
        if self.run_at is not None:
            aware("run_at", self.run_at)
        self._lengths()

    def body(self) -> dict[str, Any]:
        """Return the JSON body for the gateway.

        Raises:
            ValueError: The params can't be represented as JSON.
        """
        body: dict[str, Any] = {"type": self.type, "params": _plain(self.params), "tags": list(self.tags)}
        if self.run_at is not None:
            body["run_at"] = self.run_at.isoformat()
        if self.callback_url is not None:
            body["callback_url"] = self.callback_url
        return body | self._lengths()

    def _lengths(self) -> dict[str, float]:
        lengths = {"delay": self.delay, "expires_in": self.expires_in}
        return {name: seconds(name, length) for name, length in lengths.items() if length is not None}


def _plain(params: Mapping[str, Any] | BaseModel | None) -> Any:
    """Return the params as JSON values, the secret ones too, which pydantic would mask."""
    given = params if isinstance(params, BaseModel) else dict(params or {})
    return _revealed(_ANY.dump_python(given, by_alias=True), pydantic_core.to_jsonable_python(given))


def _revealed(dumped: Any, plain: Any) -> Any:
    """Return a JSON value with its secrets in place of their masks; `dumped` is the same value with the secrets."""
    if isinstance(dumped, _SECRETS):
        return _plain({"secret": dumped.get_secret_value()})["secret"]
    if isinstance(dumped, dict) and isinstance(plain, dict) and len(dumped) == len(plain):
        pairs = zip(dumped.values(), plain.values(), strict=True)
        return {key: _revealed(*pair) for key, pair in zip(plain, pairs, strict=True)}
    if isinstance(dumped, list | tuple) and isinstance(plain, list) and len(dumped) == len(plain):
        return [_revealed(*pair) for pair in zip(dumped, plain, strict=True)]
    return plain


_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_SECRETS = (SecretStr, SecretBytes, Secret)


@dataclass(frozen=True)
class Refusal:
    """A job of `submit_many` that was not accepted."""

    #: Position among the submissions, from 0.
    index: int
    problem: Problem

    def __str__(self) -> str:
        return f"{self.index}: {describe(self.problem)}"


@dataclass(frozen=True, kw_only=True)
class GroupStatus:
    """The counts of a group of jobs."""

    #: Number of accepted jobs.
    size: int
    #: Number of jobs in each state.
    counts: Mapping[Status, int]
    #: Number of jobs that were deleted, or are past their retention.
    deleted: int = 0

    @property
    def ended(self) -> int:
        """Number of jobs that have ended, in whatever state."""
        return sum(count for status, count in self.counts.items() if status.terminal)

    @property
    def percent(self) -> float:
        """Percentage of jobs that have ended."""
        return 100 * self.ended / self.size if self.size else 100.0

    @property
    def done(self) -> bool:
        """Whether every job has ended or was deleted."""
        return self.ended + self.deleted >= self.size


class BatchItem(Value):
    """The outcome of one job of a batch submission."""

    job_id: str | None = None
    problem: Problem | None = None


class SubmittedBatch(Value):
    """The gateway's response to a batch submission."""

    id: str | None
    items: tuple[BatchItem, ...]

    @property
    def needs_retry(self) -> bool:
        """Whether jobs were not accepted that a repeated request may submit."""
        return any(item.problem is not None and item.problem.status >= 500 for item in self.items)  # noqa: PLR2004


class Batch(Value):
    """The gateway's representation of a batch."""

    size: int
    counts: dict[Status, int]


def in_requests(submissions: Iterable[Submission]) -> Iterator[list[bytes]]:
    """Yield the JSON bodies of the jobs, in chunks that each fit one request."""
    chunk: list[bytes] = []
    size = 0
    for one in submissions:
        body = json.dumps(one.body(), allow_nan=False).encode()
        if chunk and (len(chunk) == MAX_REQUEST_JOBS or size + len(body) > MAX_REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(body)
        size += len(body)
    if chunk:
        yield chunk
