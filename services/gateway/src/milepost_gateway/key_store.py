"""The Idempotency-Keys in Redis, as digests, for they may be private: all that a gateway ever writes there."""

from dataclasses import asdict
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import pydantic_core
from pydantic import TypeAdapter
from redis.asyncio import Redis

from milepost_contracts.keys import Keys
from milepost_gateway.ports import Use
from milepost_gateway.redis_calls import or_unavailable

RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
_USE: TypeAdapter[Use] = TypeAdapter(Use)


class RedisKeyStore:
    """See `ports.KeyStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @or_unavailable
    async def claim(self, tenant: str, key: str, use: Use, *, lasts: timedelta) -> Use | None:
        earlier: Any = await self._redis.set(self._key(tenant, key), _rendered(use), nx=True, get=True, ex=lasts)
        found = None if earlier is None else _USE.validate_json(earlier)
        return None if found == use else found  # our own, of a try whose answer was lost

    @or_unavailable
    async def settle(self, tenant: str, key: str, use: Use, *, lasts: timedelta) -> None:
        await self._redis.set(self._key(tenant, key), _rendered(use), ex=lasts)

    @or_unavailable
    async def release(self, tenant: str, key: str, use: Use) -> None:
        await self._redis.eval(RELEASE, 1, self._key(tenant, key), _rendered(use))

    def _key(self, tenant: str, key: str) -> str:
        return self._keys.idempotency(blake2b(f"{len(tenant)}:{tenant}{key}".encode(), digest_size=16).hexdigest())


def _rendered(use: Use) -> bytes:
    return pydantic_core.to_json(asdict(use))
