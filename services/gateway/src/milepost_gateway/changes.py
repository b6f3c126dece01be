"""Hears from Redis that jobs have changed: one subscription for the whole process, however many listen.

What is heard is a hint, and may be lost: the versions of all jobs that anybody listens to are looked at now and then.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from milepost_contracts.keys import SHARDS, Keys, shard_of
from milepost_gateway.ports import Listener

log = structlog.get_logger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at the versions of what is listened to."""
HEARD_WITHIN = 0.5
"""Seconds for which a listener waits until its shard is subscribed to; after that the looks must do."""
SILENT = 5.0
"""Seconds after which a subscription that says nothing is asked whether it is still there."""
AT_ONCE = 500


class RedisChanges:
    """See `ports.Changes`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        #: How many listen to each shard.
        self._wanted: Counter[int] = Counter()
        #: The shards that are subscribed to.
        self._heard: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._pubsub: PubSub | None = None
        self._versions: dict[str, bytes] = {}

    @asynccontextmanager
    async def listen(self, job_ids: Sequence[str]) -> AsyncIterator[Listener]:
        listener = Listener()
        shards = [shard_of(job_id) for job_id in job_ids]
        for job_id in job_ids:
            self._listeners[job_id].add(listener)
        self._wanted.update(shards)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARD_WITHIN):
                    await self._subscribe([shard for shard in set(shards) if not self._heard[shard].is_set()])
                    for shard in shards:
                        await self._heard[shard].wait()
            yield listener
        finally:
            self._wanted.subtract(shards)
            for job_id in job_ids:
                self._listeners[job_id].discard(listener)
                if not self._listeners[job_id]:
                    del self._listeners[job_id]
                    self._versions.pop(job_id, None)

    async def keep(self) -> None:
        """Hear and look until cancelled; begin anew with a new connection when one is lost."""
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._keys.namespace)  # so that it is connected while nobody listens
                    self._pubsub = pubsub
                    await self._subscribe([shard for shard, count in self._wanted.items() if count > 0])
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._hear(pubsub))
                        tasks.create_task(self._look(pubsub))
            except* (RedisError, OSError) as errors:
                log.warning("changes_unheard", error=str(errors.exceptions[0]))
            except* Exception as errors:  # whatever it was: this loop is all that hears
                log.exception("changes_unheard", exc_info=errors)
            self._pubsub = None
            self._heard.clear()
            await asyncio.sleep(LOOK_EVERY / 2)

    async def _subscribe(self, shards: Sequence[int]) -> None:
        if self._pubsub is not None and shards:
            with suppress(RedisError, OSError):  # whoever hears will find out
                await self._pubsub.subscribe(*(self._keys.changes(shard) for shard in shards))

    async def _hear(self, pubsub: PubSub) -> None:
        shards = {self._keys.changes(shard).encode(): shard for shard in range(SHARDS)}
        while True:
            message = await pubsub.get_message(timeout=SILENT)
            if message is None:
                await pubsub.ping()
            elif message["type"] == "subscribe" and message["channel"] in shards:
                self._heard[shards[message["channel"]]].set()
            elif message["type"] == "message":
                job_id, version, _ = message["data"].split(b" ", 2)
                self._note(job_id.decode(), version)

    async def _look(self, pubsub: PubSub) -> None:
        """Find out what was not heard, and leave the shards that nobody listens to any more."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            job_ids = list(self._listeners)
            for at in range(0, len(job_ids), AT_ONCE):
                await self._compare(job_ids[at : at + AT_ONCE])
            idle = [shard for shard, heard in self._heard.items() if heard.is_set() and self._wanted[shard] <= 0]
            if idle:
                for shard in idle:
                    del self._heard[shard]  # who listens from now on subscribes anew
                await pubsub.unsubscribe(*(self._keys.changes(shard) for shard in idle))

    async def _compare(self, job_ids: Sequence[str]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(self._keys.job(job_id), "version")
            versions: list[Any] = await pipe.execute()
        for job_id, version in zip(job_ids, versions, strict=True):
            if version is not None and self._versions.get(job_id) != version:
                self._note(job_id, version)

    def _note(self, job_id: str, version: bytes) -> None:
        if job_id in self._listeners:
            self._versions[job_id] = version
            for listener in self._listeners[job_id]:
                listener.tell(job_id)
