"""Listings: each shard has an index of its own, and what is newest in all of them is merged here."""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.keys import SHARDS, Keys
from milepost_gateway.looks import not_known_yet
from milepost_gateway.ports import Place

FEW = 4
"""Jobs that each shard is asked for first, for a page: so many of the newest are rarely in one shard."""
TIES = 32
"""More jobs of one shard than these are not created within one millisecond."""


class Listing:
    """Asks all shards; whoever calls minds Redis's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def ask_shards(
        self, ask: Callable[[Any, int], None], shards: Sequence[int] = range(SHARDS)
    ) -> list[list[Any]]:
        """Ask shards the same questions, and return their answers.

        Raises:
            NotKnownYet: Some of them can't be trusted now.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.info("server")
            for shard in shards:
                pipe.hget(self._keys.mark(shard), "whole")
                ask(pipe, shard)
            server, *answers = await pipe.execute()
        each = len(answers) // len(shards)
        told = [answers[at : at + each] for at in range(0, len(answers), each)]
        if {whole for whole, *_ in told} != {server["run_id"].encode()}:
            raise not_known_yet()
        return [found for _, *found in told]

    async def newest(self, index: Callable[[int], str], before: Place | None, limit: int) -> Sequence[Place]:
        """Merge the newest of every shard: few of each, and more of those that may have more of the newest.

        Jobs leave while they are asked for: then other shards may have more.
        """
        found: dict[int, list[Place]] = {}

        async def ask(shards: Sequence[int], most: int) -> list[Place]:
            found.update(await self._latest(index, shards, before, most))
            places = (place for places in found.values() for place in places)
            return heapq.nlargest(limit, (place for place in places if before is None or place < before))

        newest, few = await ask(range(SHARDS), FEW), set(range(SHARDS))
        while more := [
            shard
            for shard in few
            if len(found[shard]) == FEW and (len(newest) < limit or found[shard][-1] > newest[-1])
        ]:
            few.difference_update(more)
            newest = await ask(more, limit + TIES)
        return newest

    async def _latest(
        self, index: Callable[[int], str], shards: Sequence[int], before: Place | None, most: int
    ) -> dict[int, list[Place]]:
        """Return so many of the newest of each of these shards, newest first, from the moment of `before` back."""
        latest = "+inf" if before is None else before.created

        def ask(pipe: Any, shard: int) -> None:
            pipe.zrevrangebyscore(index(shard), latest, "-inf", start=0, num=most, withscores=True)

        answers: list[list[list[tuple[bytes, float]]]] = await self.ask_shards(ask, shards)
        return {
            shard: [Place(int(created), job_id.decode()) for job_id, created in places]
            for shard, [places] in zip(shards, answers, strict=True)
        }
