"""When the jobs of each shard were published again, and which jobs have not ended, in Redis."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.clock import now
from milepost_contracts.states import Status
from milepost_contracts.status.redis_keys import Keys
from milepost_redis.calls import execute, in_every_shard, milliseconds, milliseconds_since_1970, raising
from milepost_tracker.adapters.redis.status_store import GRACE
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.status_store import KnownJob, StatusStore

SCAN_COUNT = 100


class RedisRepublishStore:
    """Implements `ports.republish_store.RepublishStore`."""

    def __init__(self, redis: Redis, keys: Keys, view: StatusStore, *, live_for: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._view = view
        self._lasts = milliseconds(live_for + GRACE)

    async def due_shards(self, every: timedelta) -> list[int]:
        with raising(StoreUnavailable):
            republished = await in_every_shard(
                self._redis, lambda pipe, shard: pipe.hget(self._keys.checkpoint(shard), "republished")
            )
        latest = milliseconds_since_1970(now() - every)
        return [shard for shard, at in enumerate(republished) if int(at or 0) <= latest]

    async def unfinished_jobs(self, shard: int) -> AsyncIterator[Sequence[KnownJob]]:
        for status in Status:
            if status.terminal:
                continue
            index, cursor = self._keys.all_tenants(shard, status), -1
            while cursor:
                with raising(StoreUnavailable):
                    scanned: Any = await self._redis.zscan(index, max(0, cursor), count=SCAN_COUNT)
                cursor, found = scanned
                yield await self._view.jobs([job_id.decode() for job_id, _ in found])

    async def record(self, shard: int) -> None:
        def fill(pipe: Any) -> None:
            pipe.hset(self._keys.checkpoint(shard), "republished", milliseconds_since_1970(now()))
            pipe.pexpire(self._keys.checkpoint(shard), self._lasts)

        with raising(StoreUnavailable):
            await execute(self._redis, fill)
