"""The Idempotency-Keys in Redis, as digests, because they may be private: all that a gateway ever writes to Redis."""

from dataclasses import asdict
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import pydantic_core
from pydantic import TypeAdapter
from redis.asyncio import Redis

from milepost_contracts.status.redis_keys import Keys
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports.idempotency_store import IdempotencyRecord
from milepost_redis.calls import raising
from milepost_redis.scripts import Script

_RECORD: TypeAdapter[IdempotencyRecord] = TypeAdapter(IdempotencyRecord)


class RedisIdempotencyStore:
    """Implements `ports.idempotency_store.IdempotencyStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._release = Script("milepost_gateway.adapters.redis", "release_key.lua")

    async def claim(
        self, tenant: str, key: str, record: IdempotencyRecord, *, lasts: timedelta
    ) -> IdempotencyRecord | None:
        with raising(StoreUnavailable):
            earlier: Any = await self._redis.set(self._key(tenant, key), _rendered(record), nx=True, get=True, ex=lasts)
        found = None if earlier is None else _RECORD.validate_json(earlier)
        return None if found == record else found  # our own, of a try whose answer was lost

    async def replace(self, tenant: str, key: str, record: IdempotencyRecord, *, lasts: timedelta) -> None:
        with raising(StoreUnavailable):
            await self._redis.set(self._key(tenant, key), _rendered(record), ex=lasts)

    async def release(self, tenant: str, key: str, record: IdempotencyRecord) -> None:
        with raising(StoreUnavailable):
            await self._release.run(self._redis, [self._key(tenant, key)], _rendered(record))

    def _key(self, tenant: str, key: str) -> str:
        return self._keys.idempotency(blake2b(f"{len(tenant)}:{tenant}{key}".encode(), digest_size=16).hexdigest())


def _rendered(record: IdempotencyRecord) -> bytes:
    return pydantic_core.to_json(asdict(record))
