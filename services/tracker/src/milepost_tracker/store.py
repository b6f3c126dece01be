"""The status view and the fleet in Redis. Scripts are sent whole (EVAL): a promoted replica has none by its hash."""

import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from milepost_contracts import document
from milepost_contracts.fleet import (
    ALIVE_FOR,
    TYPE_KNOWN_FOR,
    AnyFleetMessage,
    Beat,
    Catalogue,
    ProcessorAnnounced,
    ProcessorStopped,
)
from milepost_contracts.keys import SHARDS, Keys, shard_of
from milepost_contracts.view import View, cancel_key
from milepost_tracker.errors import StoreUnavailable

GRACE = timedelta(days=1)
"""A job's hash outlives its time by this, so that a sweep still knows which indexes it is in."""
SWEPT_AT_ONCE = 100
PROCESSORS_REMEMBERED_FOR = timedelta(hours=1)


def _script(name: str) -> str:
    return files("milepost_tracker").joinpath("scripts", name).read_text()


def _milliseconds(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


class RedisStatusStore:
    """The status view, merged by `scripts/apply.lua`: one call for each shard that a batch touches."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta, live_for: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = retention
        self._lengths = [_milliseconds(length) for length in (retention, live_for, GRACE)]
        self._apply = _script("apply.lua")
        self._sweep = _script("sweep.lua")

    async def apply(self, views: Mapping[str, View]) -> int:
        by_shard: dict[int, list[tuple[str, View]]] = defaultdict(list)
        for job_id, view in views.items():
            by_shard[shard_of(job_id)].append((job_id, view))
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for shard, group in by_shard.items():
                    keys = [self._keys.expiry(shard), *(self._keys.job(job_id) for job_id, _ in group)]
                    head: list[str | int] = [self._keys.index_prefix(shard), self._keys.changes(shard), *self._lengths]
                    arguments = [argument for job_id, view in group for argument in self._arguments(job_id, view)]
                    pipe.eval(self._apply, len(keys), *keys, *head, *arguments)
                answers: list[list[int]] = await pipe.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(str(error)) from error
        return sum(version > 0 for answer in answers for version in answer)

    def _arguments(self, job_id: str, view: View) -> list[str | bytes | int]:
        cancel: list[str | bytes | int] = ["", ""]
        if view.cancel is not None:
            cancel = [cancel_key(view.cancel), document.render_cancel(view.cancel)]
        event = view.latest
        if event is None:
            return [job_id, "", "", "", "", "", *cancel]
        state = document.render_state(event, retention=self._retention)
        return [
            job_id,
            event.sequence,
            event.job.type,
            str(event.status),
            int(event.status.terminal),
            state,
            *cancel,
        ]

    async def sweep(self) -> int:
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for shard in range(SHARDS):
                    prefixes = (self._keys.jobs_prefix(shard), self._keys.index_prefix(shard))
                    pipe.eval(self._sweep, 1, self._keys.expiry(shard), *prefixes, SWEPT_AT_ONCE)
                swept: list[int] = await pipe.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(str(error)) from error
        return sum(swept)


class RedisFleetStore:
    """What is known of processors and job types, each with a time to live."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def record(self, message: AnyFleetMessage) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                if isinstance(message, ProcessorAnnounced):
                    self._announced(pipe, message.catalogue)
                elif isinstance(message, ProcessorStopped):
                    pipe.delete(self._keys.processor(message.beat.instance))
                    pipe.zrem(self._keys.processors, message.beat.instance)
                else:
                    self._beat(pipe, message.beat)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(str(error)) from error

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
