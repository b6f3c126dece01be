"""Messages that nobody could read, in Redis."""

import time
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import pydantic_core
from redis.asyncio import Redis

from milepost_contracts.status.redis_keys import Keys
from milepost_contracts.values import utc_text
from milepost_redis.calls import execute, raising
from milepost_tracker.errors import StoreUnavailable

POISON_TTL = timedelta(days=30)
"""How long an unreadable message is listed; the message itself stays in the poison queue."""

EXCERPT = 500


class RedisPoisonStore:
    """Implements `ports.poison_store.PoisonStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def record(self, body: bytes, *, queue: str, reason: str, at: datetime) -> None:
        key = blake2b(body + queue.encode(), digest_size=12).hexdigest()
        record = {
            "id": key,
            "reason": reason,
            "queue": queue,
            "at": utc_text(at),
            "size": len(body),
            "excerpt": body[:EXCERPT].decode(errors="replace"),
        }

        def fill(pipe: Any) -> None:
            pipe.set(self._keys.poison(key), pydantic_core.to_json(record), ex=POISON_TTL)
            pipe.zadd(self._keys.poisons, {key: at.timestamp()})
            pipe.zremrangebyscore(self._keys.poisons, "-inf", time.time() - POISON_TTL.total_seconds())
            pipe.expire(self._keys.poisons, POISON_TTL)

        with raising(StoreUnavailable):
            await execute(self._redis, fill)
