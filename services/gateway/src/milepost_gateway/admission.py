"""How much each tenant may ask for. Kept in memory: no write to Redis is needed to accept a job (law 1)."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from milepost_contracts.states import Status
from milepost_gateway.errors import StoreUnavailable, TooManyJobs, TooManyRequests
from milepost_gateway.ports import Rules, StatusStore

COUNT_EVERY = 1.0
"""Seconds between two counts of a tenant's live jobs; what this gateway accepted meanwhile is added."""
LISTEN_AGAIN = 5.0
LIVE = tuple(status for status in Status if not status.terminal)


@dataclass
class _Bucket:
    """A token bucket that holds what may be asked for in one second, and may be overdrawn by one request."""

    tokens: float
    at: float

    def take(self, count: int, rate: float, at: float) -> float:
        """Take so many and return 0; or take none and return in how many seconds it may be tried again."""
        most = max(1.0, rate)
        self.tokens = min(most, self.tokens + (at - self.at) * rate)
        self.at = at
        if self.tokens < (needed := min(float(count), most)):
            return (needed - self.tokens) / rate
        self.tokens -= count
        return 0.0


@dataclass
class _Count:
    #: Nothing while nobody can say.
    jobs: int | None = None
    at: float = float("-inf")
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Holds tenants to their limits, at one gateway process."""

    rules: Rules
    store: StatusStore
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _counts: dict[str, _Count] = field(default_factory=dict)
    _listeners: Counter[str] = field(default_factory=Counter)

    async def admit(self, tenant: str, count: int = 1) -> None:
        """Return if the tenant may hand over so many jobs now.

        Raises:
            TooManyRequests, TooManyJobs: Not now; says when to try again.
        """
        limits = self.rules.current().limits_of(tenant)
        if limits.live_jobs is not None:
            await self._admit_live(tenant, count, limits.live_jobs)
        if (rate := limits.jobs_per_second) is not None:
            at = time.monotonic()
            bucket = self._buckets.setdefault(tenant, _Bucket(max(1.0, rate), at))
            if wait := bucket.take(count, rate, at):
                raise TooManyRequests(f"{rate:g} jobs a second are the most", retry_after=wait)

    async def _admit_live(self, tenant: str, count: int, most: int) -> None:
        known = self._counts.setdefault(tenant, _Count())
        async with known.counting:
            if time.monotonic() - known.at > COUNT_EVERY:
                known.at = time.monotonic()
                try:
                    counted = await self.store.counts(tenant=tenant)
                except StoreUnavailable:  # jobs are accepted all the same
                    known.jobs = None
                else:
                    known.jobs = sum(counted[status] for status in LIVE)
        if known.jobs is None:
            return
        if known.jobs + count > most:
            raise TooManyJobs(most)
        known.jobs += count

    def check_listener(self, tenant: str) -> None:
        """Raise `TooManyRequests` if so many of the tenant's requests wait already, or are streams, as it may have."""
        most = self.rules.current().limits_of(tenant).listeners
        if self._listeners[tenant] >= most:
            raise TooManyRequests(f"{most} requests that wait and streams are the most", retry_after=LISTEN_AGAIN)

    @contextmanager
    def listening(self, tenant: str) -> Iterator[None]:
        """Count one who waits."""
        self._listeners[tenant] += 1
        try:
            yield
        finally:
            self._listeners[tenant] -= 1
            if not self._listeners[tenant]:
                del self._listeners[tenant]
