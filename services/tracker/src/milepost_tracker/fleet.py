"""What is known of processors and job types, and of messages that nobody could read, in Redis."""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import pydantic_core
from redis.asyncio import Redis

from milepost_contracts.fleet import (
    ALIVE_FOR,
    TYPE_KNOWN_FOR,
    AnyFleetMessage,
    Beat,
    Catalogue,
    ProcessorAnnounced,
    ProcessorStopped,
)
from milepost_contracts.keys import Keys
from milepost_contracts.values import utc_text
from milepost_tracker.redis_calls import or_unavailable

PROCESSORS_REMEMBERED_FOR = timedelta(hours=1)
POISON_TOLD_FOR = timedelta(days=30)
"""How long an unreadable message is listed; the message itself stays at the broker."""
EXCERPT = 500


class RedisFleetStore:
    """What is known of processors and job types, each with a time to live."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def record(self, message: AnyFleetMessage) -> None:
        with or_unavailable():
            async with self._redis.pipeline(transaction=False) as pipe:
                if isinstance(message, ProcessorAnnounced):
                    self._announced(pipe, message.catalogue)
                elif isinstance(message, ProcessorStopped):
                    pipe.delete(self._keys.processor(message.beat.instance))
                    pipe.zrem(self._keys.processors, message.beat.instance)
                else:
                    self._beat(pipe, message.beat)
                await pipe.execute()

    def _announced(self, pipe: Any, catalogue: Catalogue) -> None:
        for job_type in catalogue.types:
            pipe.set(self._keys.type(job_type.type), job_type.model_dump_json(), ex=TYPE_KNOWN_FOR)
        names = {job_type.type: time.time() for job_type in catalogue.types}
        self._remember(pipe, self._keys.types, names, TYPE_KNOWN_FOR)

    def _beat(self, pipe: Any, beat: Beat) -> None:
        pipe.set(self._keys.processor(beat.instance), beat.model_dump_json(), ex=ALIVE_FOR)
        self._remember(pipe, self._keys.processors, {beat.instance: time.time()}, PROCESSORS_REMEMBERED_FOR)

    @staticmethod
    def _remember(pipe: Any, key: str, names: Mapping[str, float], length: timedelta) -> None:
        if names:
            pipe.zadd(key, names)
        pipe.zremrangebyscore(key, "-inf", time.time() - length.total_seconds())
        pipe.expire(key, length)


class RedisPoisonStore:
    """What there is to tell of messages that nobody could read."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def record_poison(self, body: bytes, *, queue: str, reason: str, at: datetime) -> None:
        key = blake2b(body + queue.encode(), digest_size=12).hexdigest()
        told = {
            "id": key,
            "reason": reason,
            "queue": queue,
            "at": utc_text(at),
            "size": len(body),
            "excerpt": body[:EXCERPT].decode(errors="replace"),
        }
        with or_unavailable():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(self._keys.poison(key), pydantic_core.to_json(told), ex=POISON_TOLD_FOR)
                pipe.zadd(self._keys.poisons, {key: at.timestamp()})
                pipe.zremrangebyscore(self._keys.poisons, "-inf", time.time() - POISON_TOLD_FOR.total_seconds())
                pipe.expire(self._keys.poisons, POISON_TOLD_FOR)
                await pipe.execute()
