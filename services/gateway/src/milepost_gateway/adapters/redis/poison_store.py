"""Unreadable messages in Redis, read only."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.status.redis_keys import Keys
from milepost_gateway.errors import StoreUnavailable
from milepost_redis.calls import raising


class RedisPoisonStore:
    """Implements `ports.poison_store.PoisonStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def latest(self, limit: int) -> Sequence[bytes]:
        with raising(StoreUnavailable):
            keys: list[Any] = await self._redis.zrange(self._keys.poisons, 0, limit - 1, desc=True)
            if not keys:
                return []
            found: list[Any] = await self._redis.mget([self._keys.poison(key.decode()) for key in keys])
        return [body for body in found if body is not None]
