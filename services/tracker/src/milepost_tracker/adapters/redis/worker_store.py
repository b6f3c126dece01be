"""Announced job types and live processors in Redis, each with a time to live."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.messages.worker_events import (
    PROCESSOR_TTL,
    TYPE_TTL,
    Announcement,
    Heartbeat,
    ProcessorAnnounced,
    ProcessorStopped,
    WorkerEvent,
)
from milepost_contracts.status.redis_keys import Keys
from milepost_redis.calls import execute, raising
from milepost_redis.parsing import parse_known
from milepost_tracker.errors import StoreUnavailable

PROCESSOR_INDEX_TTL = timedelta(hours=1)


class RedisWorkerStore:
    """Implements `ports.worker_store.WorkerStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def record(self, message: WorkerEvent) -> None:
        def fill(pipe: Any) -> None:
            if isinstance(message, ProcessorAnnounced):
                self._record_announcement(pipe, message.announcement)
            elif isinstance(message, ProcessorStopped):
                pipe.delete(self._keys.processor(message.heartbeat.instance))
                pipe.zrem(self._keys.processors, message.heartbeat.instance)
            else:
                self._record_heartbeat(pipe, message.heartbeat)

        with raising(StoreUnavailable):
            await execute(self._redis, fill)

    async def running_jobs(self) -> set[str]:
        with raising(StoreUnavailable):
            instances: Any = await self._redis.zrange(self._keys.processors, 0, -1)
            keys = [self._keys.processor(instance.decode()) for instance in instances]
            heartbeats: Any = await self._redis.mget(keys) if keys else []
        known = parse_known(Heartbeat, [body for body in heartbeats if body])
        return {job.id for heartbeat in known for job in heartbeat.running}

    def _record_announcement(self, pipe: Any, announcement: Announcement) -> None:
        for job_type in announcement.types:
            pipe.set(self._keys.type(job_type.type), job_type.model_dump_json(), ex=TYPE_TTL)
        names = {job_type.type: time.time() for job_type in announcement.types}
        self._add_to_index(pipe, self._keys.types, names, TYPE_TTL)

    def _record_heartbeat(self, pipe: Any, heartbeat: Heartbeat) -> None:
        pipe.set(self._keys.processor(heartbeat.instance), heartbeat.model_dump_json(), ex=PROCESSOR_TTL)
        self._add_to_index(pipe, self._keys.processors, {heartbeat.instance: time.time()}, PROCESSOR_INDEX_TTL)

    @staticmethod
    def _add_to_index(pipe: Any, key: str, names: Mapping[str, float], length: timedelta) -> None:
        if names:
            pipe.zadd(key, names)
        pipe.zremrangebyscore(key, "-inf", time.time() - length.total_seconds())
        pipe.expire(key, length)
