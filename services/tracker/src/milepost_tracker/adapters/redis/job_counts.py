"""Counts the jobs of the status view in Redis, and reads what processors have reported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.clock import now
from milepost_contracts.messages.worker_events import Heartbeat, JobType
from milepost_contracts.states import Status
from milepost_contracts.status.redis_keys import SHARDS, Keys
from milepost_redis.calls import execute, raising
from milepost_redis.parsing import parse_known
from milepost_tracker.errors import StoreUnavailable


class RedisJobCounts:
    """Implements `ports.job_counts.JobCounts`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def by_status(self) -> Mapping[str, int]:
        def fill(pipe: Any) -> None:
            for status in Status:
                for shard in range(SHARDS):
                    pipe.zcard(self._keys.all_tenants(shard, status))

        with raising(StoreUnavailable):
            counts = await execute(self._redis, fill)
        return {str(status): sum(counts[n * SHARDS : (n + 1) * SHARDS]) for n, status in enumerate(Status)}

    async def oldest(self, statuses: Sequence[str], count: int) -> tuple[str, ...]:
        def fill(pipe: Any) -> None:
            for status in statuses:
                for shard in range(SHARDS):
                    pipe.zrange(self._keys.all_tenants(shard, status), 0, count - 1)

        with raising(StoreUnavailable):
            found: list[list[bytes]] = await execute(self._redis, fill)
        return tuple(sorted(job_id.decode() for job_ids in found for job_id in job_ids)[:count])

    async def heartbeats(self) -> Sequence[Heartbeat]:
        bodies = await self._all(self._keys.processors, self._keys.processor)
        return parse_known(Heartbeat, bodies)

    async def queues(self) -> set[str]:
        bodies = await self._all(self._keys.types, self._keys.type)
        return {job_type.queue for job_type in parse_known(JobType, bodies)}

    async def waiting_webhooks(self) -> int:
        with raising(StoreUnavailable):
            waiting: int = await self._redis.zcount(self._keys.waiting, now().timestamp(), "+inf")
        return waiting

    async def _all(self, names_key: str, key: Callable[[str], str]) -> list[bytes]:
        with raising(StoreUnavailable):
            names: list[Any] = await self._redis.zrange(names_key, 0, -1)
            if not names:
                return []
            found: list[Any] = await self._redis.mget([key(name.decode()) for name in names])
        return [body for body in found if body is not None]
