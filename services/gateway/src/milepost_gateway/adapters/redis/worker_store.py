"""Announced job types and live processors in Redis, read only."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.messages.worker_events import Heartbeat, JobType
from milepost_contracts.status.redis_keys import Keys
from milepost_gateway.errors import StoreUnavailable
from milepost_redis.calls import raising
from milepost_redis.parsing import parse_known


class RedisWorkerStore:
    """Implements `ports.worker_store.WorkerStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def job_types(self) -> Sequence[JobType]:
        return parse_known(JobType, await self._all(self._keys.types, self._keys.type))

    async def types_since(self) -> datetime | None:
        with raising(StoreUnavailable):
            since: Any = await self._redis.get(self._keys.types_since)
        return None if since is None else datetime.fromtimestamp(float(since), UTC)

    async def processors(self) -> Sequence[Heartbeat]:
        return parse_known(Heartbeat, await self._all(self._keys.processors, self._keys.processor))

    async def _all(self, names_key: str, key: Callable[[str], str]) -> list[Any]:
        with raising(StoreUnavailable):
            listed: list[Any] = await self._redis.zrange(names_key, 0, -1)
            names = sorted(name.decode() for name in listed)
            if not names:
                return []
            return [body for body in await self._redis.mget([key(name) for name in names]) if body is not None]
