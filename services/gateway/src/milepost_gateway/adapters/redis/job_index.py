"""Lists of jobs in Redis: each shard has indexes of its own, and their newest entries are merged here."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.states import Status
from milepost_contracts.status.redis_keys import SHARDS, Keys
from milepost_gateway.adapters.redis.checkpoints import incomplete
from milepost_gateway.adapters.redis.status_store import DOCUMENT_FIELDS, stored_document
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports.job_index import Place
from milepost_gateway.ports.status_store import StoredDocument
from milepost_redis.calls import execute, raising

FIRST_READ = 4
"""Jobs that each shard is asked for first, for a page: more of the newest are rarely in one shard."""
MAX_TIES = 32
"""How many jobs of one shard and one millisecond are read beyond a page. More are not expected."""


class RedisJobIndex:
    """Implements `ports.job_index.JobIndex`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def page(
        self,
        *,
        tenant: str,
        type_name: str | None,
        status: Status | None,
        before: Place | None,
        limit: int,
        batch: str | None = None,
    ) -> Sequence[tuple[Place, StoredDocument | None]]:
        def index(shard: int) -> str:
            return self._index(shard, tenant=tenant, type_name=type_name, status=status, batch=batch)

        newest = await self._newest(index, before, limit)

        def fill(pipe: Any) -> None:
            for place in newest:
                pipe.hmget(self._keys.job(place.job_id), *DOCUMENT_FIELDS)

        with raising(StoreUnavailable):
            found = await execute(self._redis, fill)
        return [(place, stored_document(fields)) for place, fields in zip(newest, found, strict=True)]

    async def dead_letters(self, *, tenant: str, before: Place | None, limit: int) -> Sequence[Place]:
        return await self._newest(lambda shard: self._keys.dead(shard, tenant=tenant), before, limit)

    async def tagged(
        self, tag: str, *, tenant: str, since: int, limit: int, newest: bool = False
    ) -> tuple[int, Sequence[tuple[str, int]]]:
        key = self._keys.tagged(tenant, tag)

        def fill(pipe: Any) -> None:
            pipe.time()  # first: what changes meanwhile is found the next time
            if newest:
                pipe.zrevrange(key, 0, limit - 1, withscores=True)
            else:
                pipe.zrangebyscore(key, since, "+inf", start=0, num=limit, withscores=True)

        with raising(StoreUnavailable):
            (seconds, microseconds), found = await execute(self._redis, fill)
        return seconds * 1000 + microseconds // 1000, [(job_id.decode(), int(at)) for job_id, at in found]

    async def unfinished(self, tag: str, *, tenant: str, limit: int) -> Sequence[str]:
        with raising(StoreUnavailable):
            found: Any = await self._redis.zrevrange(self._keys.unfinished(tenant, tag), 0, limit - 1)
        return [job_id.decode() for job_id in found]

    async def counts(
        self, *, tenant: str, batch: str | None = None, statuses: Sequence[Status] = tuple(Status)
    ) -> Mapping[Status, int]:
        def ask(pipe: Any, shard: int) -> None:
            for status in statuses:
                pipe.zcard(self._index(shard, tenant=tenant, type_name=None, status=status, batch=batch))

        counted = await self._ask_shards(ask)
        return {status: sum(shard[number] for shard in counted) for number, status in enumerate(statuses)}

    def _index(
        self, shard: int, *, tenant: str, type_name: str | None, status: Status | None, batch: str | None
    ) -> str:
        if batch is not None:
            return self._keys.batch(shard, batch, status)
        return self._keys.index(shard, tenant=tenant, type_name=type_name, status=status)

    async def _newest(self, index: Callable[[int], str], before: Place | None, limit: int) -> Sequence[Place]:
        """Return the newest entries of all shards' indexes, from behind `before` on.

        Few of each shard are read first, and more of those shards only that may have more of the newest. Entries may
        be removed between two reads: then other shards may have more.
        """
        found: dict[int, list[Place]] = {}

        async def read(shards: Sequence[int], count: int) -> list[Place]:
            found.update(await self._read_newest(index, shards, before, count))
            places = (place for places in found.values() for place in places)
            return heapq.nlargest(limit, (place for place in places if before is None or place < before))

        newest, partly_read = await read(range(SHARDS), FIRST_READ), set(range(SHARDS))
        while more := [
            shard
            for shard in partly_read
            if len(found[shard]) == FIRST_READ and (len(newest) < limit or found[shard][-1] > newest[-1])
        ]:
            partly_read.difference_update(more)
            newest = await read(more, limit + MAX_TIES)
        return newest

    async def _read_newest(
        self, index: Callable[[int], str], shards: Sequence[int], before: Place | None, count: int
    ) -> dict[int, list[Place]]:
        """Return the `count` newest entries of each of these shards, from the millisecond of `before` back."""
        latest = "+inf" if before is None else before.created

        def ask(pipe: Any, shard: int) -> None:
            pipe.zrevrangebyscore(index(shard), latest, "-inf", start=0, num=count, withscores=True)

        answers: list[list[list[tuple[bytes, float]]]] = await self._ask_shards(ask, shards)
        return {
            shard: [Place(int(created), job_id.decode()) for job_id, created in places]
            for shard, [places] in zip(shards, answers, strict=True)
        }

    async def _ask_shards(
        self, ask: Callable[[Any, int], None], shards: Sequence[int] = range(SHARDS)
    ) -> list[list[Any]]:
        """Ask each of these shards the same questions in one round trip, and return the answers by shard.

        Raises:
            NotKnownYet: One of the shards is not complete.
            StoreUnavailable: Redis does not answer.
        """

        def fill(pipe: Any) -> None:
            pipe.info("server")
            for shard in shards:
                pipe.hget(self._keys.checkpoint(shard), "complete")
                ask(pipe, shard)

        with raising(StoreUnavailable):
            server, *answers = await execute(self._redis, fill)
        each = len(answers) // len(shards)
        by_shard = [answers[at : at + each] for at in range(0, len(answers), each)]
        if {complete for complete, *_ in by_shard} != {server["run_id"].encode()}:
            raise incomplete()
        return [found for _, *found in by_shard]
