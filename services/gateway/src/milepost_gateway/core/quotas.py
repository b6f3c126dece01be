"""Rate limits and quotas per tenant. Kept in memory: accepting a job needs no write to Redis (law 1)."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from milepost_contracts.states import UNFINISHED
from milepost_gateway.errors import StoreUnavailable, TooManyJobs, TooManyRequests
from milepost_gateway.ports.access_rules import AccessRules
from milepost_gateway.ports.job_index import JobIndex

COUNT_INTERVAL = 3.0
"""Seconds between two counts of a tenant's unfinished jobs at its limit: some may have ended."""
NEAR_COUNT_INTERVAL, FAR_COUNT_INTERVAL = 5.0, 15.0
"""The same from half of the limit on, and below. Jobs that this gateway accepts meanwhile are added."""
LISTENER_RETRY_AFTER = 5.0
"""Seconds after which to try again when too many requests wait."""


@dataclass
class _Bucket:
    """A token bucket with a capacity of one second, which one request may overdraw."""

    tokens: float
    at: float

    def take(self, count: int, rate: float, at: float) -> float:
        """Take `count` tokens and return 0; or take none and return the seconds after which to try again."""
        capacity = max(1.0, rate)
        self.tokens = min(capacity, self.tokens + (at - self.at) * rate)
        self.at = at
        if self.tokens < (needed := min(float(count), capacity)):
            return (needed - self.tokens) / rate
        self.tokens -= count
        return 0.0


@dataclass
class _Count:
    #: Nothing while Redis can't be read.
    jobs: int | None = None
    at: float = float("-inf")
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """Enforces the limits of tenants in one gateway process."""

    rules: AccessRules
    index: JobIndex
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _counts: dict[str, _Count] = field(default_factory=dict)
    _listeners: Counter[str] = field(default_factory=Counter)

    async def acquire(self, tenant: str, count: int = 1) -> None:
        """Count this number of submissions of the tenant, if its limits allow them.

        Raises:
            TooManyRequests, TooManyJobs: A limit is reached; says when to try again.
        """
        limits = self.rules.current().limits_of(tenant)
        if limits.live_jobs is not None:
            await self._check_live_jobs(tenant, count, limits.live_jobs)
        if (rate := limits.jobs_per_second) is not None:
            at = time.monotonic()
            bucket = self._buckets.setdefault(tenant, _Bucket(max(1.0, rate), at))
            if wait := bucket.take(count, rate, at):
                raise TooManyRequests(f"the rate limit is {rate:g} jobs per second", retry_after=wait)

    async def _check_live_jobs(self, tenant: str, count: int, limit: int) -> None:
        known = self._counts.setdefault(tenant, _Count())
        async with known.counting:
            if time.monotonic() - known.at > _count_interval(known.jobs, count, limit):
                known.at = time.monotonic()
                try:
                    counted = await self.index.counts(tenant=tenant, statuses=UNFINISHED)
                except StoreUnavailable:  # jobs are accepted without the limit
                    known.jobs = None
                else:
                    known.jobs = sum(counted.values())
        if known.jobs is None:
            return
        if known.jobs + count > limit:
            raise TooManyJobs(limit)
        known.jobs += count

    def check_listener(self, tenant: str) -> None:
        """Raise `TooManyRequests` if the tenant's limit of waiting requests and streams is reached."""
        limit = self.rules.current().limits_of(tenant).listeners
        if self._listeners[tenant] >= limit:
            why = f"the limit of {limit} waiting requests and streams is reached"
            raise TooManyRequests(why, retry_after=LISTENER_RETRY_AFTER)

    @contextmanager
    def listening(self, tenant: str) -> Iterator[None]:
        """Count a waiting request or stream while the context lasts."""
        self._listeners[tenant] += 1
        try:
            yield
        finally:
            self._listeners[tenant] -= 1
            if not self._listeners[tenant]:
                del self._listeners[tenant]


def _count_interval(jobs: int | None, more: int, limit: int) -> float:
    """Return how old a count of a tenant's unfinished jobs may be: each costs over a thousand commands of Redis."""
    if jobs is None or jobs + more > limit:
        return COUNT_INTERVAL
    return NEAR_COUNT_INTERVAL if jobs + more > limit / 2 else FAR_COUNT_INTERVAL
