"""Announced job types and live processors in Redis, each with a time to live."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.messages.worker_events import (
    PROCESSOR_TTL,
    TYPE_TTL,
    VERSION_LIVE,
    VERSION_TTL,
    Announcement,
    Heartbeat,
    ProcessorAnnounced,
    ProcessorStopped,
    WorkerEvent,
)
from milepost_contracts.status.redis_keys import Keys
from milepost_contracts.values import QueueName, TypeName, Value
from milepost_redis.calls import execute, milliseconds, milliseconds_since_1970, raising
from milepost_redis.parsing import parse_known
from milepost_redis.scripts import Argument, Script
from milepost_tracker.errors import StoreUnavailable

PROCESSOR_INDEX_TTL = timedelta(hours=1)
MAX_GAP = timedelta(minutes=1)
"""If nothing was recorded for this long, processors may have announced types that were not recorded."""


_ANNOUNCED = re.compile(rb"(?P<last>\d{1,20}) [01] (?P<version>[!-~]+) (?P<queues>[!-~]+)")
"""What `announce.lua` stores of a processor; entries of another form are skipped."""


class _Placed(Value):
    """The part of a stored type that says where it is."""

    type: TypeName
    queue: QueueName


class RedisWorkerStore:
    """Implements `ports.worker_store.WorkerStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._announce = Script("milepost_tracker.adapters.redis", "announce.lua")

    async def record(self, message: WorkerEvent) -> None:
        def fill(pipe: Any) -> None:
            pipe.set(self._keys.recorded_since, time.time(), nx=True, ex=MAX_GAP)
            pipe.expire(self._keys.recorded_since, MAX_GAP)
            if isinstance(message, ProcessorAnnounced):
                self._record_announcement(pipe, message.announcement)
            elif isinstance(message, ProcessorStopped):
                self._record_stop(pipe, message.heartbeat)
            else:
                self._record_heartbeat(pipe, message.heartbeat)

        with raising(StoreUnavailable):
            await execute(self._redis, fill, self._announce)

    async def queues(self, job_types: Sequence[str]) -> Mapping[str, str]:
        def ask(pipe: Any) -> None:
            for name in job_types:
                pipe.get(self._keys.type(name))

        with raising(StoreUnavailable):
            stored = await execute(self._redis, ask) if job_types else []
        return {one.type: one.queue for one in parse_known(_Placed, [body for body in stored if body is not None])}

    async def versions(self, job_type: str, *, queue: str, within: timedelta) -> frozenset[str] | None:
        def ask(pipe: Any) -> None:
            pipe.time()
            pipe.get(self._keys.recorded_since)
            pipe.hgetall(self._keys.type_versions(job_type))

        with raising(StoreUnavailable):
            (seconds, microseconds), since, announced = await execute(self._redis, ask)
        begin = seconds + microseconds / 1_000_000 - within.total_seconds()
        if since is None or float(since) > begin:
            return None
        entries = (_ANNOUNCED.fullmatch(value) for field, value in announced.items() if field.startswith(b"p:"))
        return frozenset(
            entry["version"].decode()
            for entry in entries
            if entry and int(entry["last"]) / 1000 >= begin and queue.encode() in entry["queues"].split(b",")
        )

    def _record_announcement(self, pipe: Any, announcement: Announcement) -> None:
        if not announcement.types:
            return  # it waits for its queues
        queues = ",".join(sorted({job_type.queue for job_type in announcement.types}))
        started = 0 if announcement.started_at is None else milliseconds_since_1970(announcement.started_at)
        for announced in announcement.types:
            job_type = announced.with_version()
            self._add_announce(
                pipe,
                job_type.type,
                announcement.instance,
                job_type.version,
                job_type.model_dump_json(),
                queues,
                started,
            )
        pipe.set(self._keys.types_since, time.time(), nx=True, ex=TYPE_TTL)
        pipe.expire(self._keys.types_since, TYPE_TTL)
        names = {job_type.type: time.time() for job_type in announcement.types}
        self._add_to_index(pipe, self._keys.types, names, TYPE_TTL)

    def _record_stop(self, pipe: Any, heartbeat: Heartbeat) -> None:
        pipe.delete(self._keys.processor(heartbeat.instance))
        pipe.zrem(self._keys.processors, heartbeat.instance)
        for name in heartbeat.types:
            self._add_announce(pipe, name, heartbeat.instance, "", "", "", 0)

    def _add_announce(self, pipe: Any, name: str, *arguments: Argument) -> None:
        lengths = (milliseconds(length) for length in (VERSION_LIVE, VERSION_TTL, TYPE_TTL))
        self._announce.add_to(pipe, [self._keys.type(name), self._keys.type_versions(name)], *arguments, *lengths)

    def _record_heartbeat(self, pipe: Any, heartbeat: Heartbeat) -> None:
        pipe.set(self._keys.processor(heartbeat.instance), heartbeat.model_dump_json(), ex=PROCESSOR_TTL)
        self._add_to_index(pipe, self._keys.processors, {heartbeat.instance: time.time()}, PROCESSOR_INDEX_TTL)

    @staticmethod
    def _add_to_index(pipe: Any, key: str, names: Mapping[str, float], length: timedelta) -> None:
        if names:
            pipe.zadd(key, names)
        pipe.zremrangebyscore(key, "-inf", time.time() - length.total_seconds())
        pipe.expire(key, length)
