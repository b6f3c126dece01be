"""Both sides of the books: how many jobs the view has by status, and how many anybody holds."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from redis.asyncio import Redis

from milepost_contracts.envelope import now
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.keys import SHARDS, Keys
from milepost_contracts.states import Status
from milepost_contracts.topology import Queue, Topology
from milepost_rabbit.cancelling import raise_if_ours
from milepost_rabbit.depth import depths
from milepost_tracker.errors import LogUnavailable
from milepost_tracker.reconcile import OPEN
from milepost_tracker.redis_calls import or_unavailable


class RedisAccounts:
    """See `reconcile.Accounts`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def by_status(self) -> Mapping[str, int]:
        async def count(pipe: Any) -> list[int]:
            for status in Status:
                for shard in range(SHARDS):
                    pipe.zcard(self._keys.everybodys(shard, status))
            counted: list[int] = await pipe.execute()
            return counted

        counts = await self._ask(count)
        return {str(status): sum(counts[n * SHARDS : (n + 1) * SHARDS]) for n, status in enumerate(Status)}

    async def oldest_open(self, count: int) -> tuple[str, ...]:
        async def find(pipe: Any) -> list[list[bytes]]:
            for status in OPEN:
                for shard in range(SHARDS):
                    pipe.zrange(self._keys.everybodys(shard, status), 0, count - 1)
            found: list[list[bytes]] = await pipe.execute()
            return found

        return tuple(sorted(one.decode() for found in await self._ask(find) for one in found)[:count])

    async def beats(self) -> list[Beat]:
        """Return what the processors that are alive say of themselves."""
        bodies = await self._all(self._keys.processors, self._keys.processor)
        return [Beat.model_validate_json(body) for body in bodies]

    async def queues(self) -> set[str]:
        """Return the queues of all types that anybody has announced."""
        bodies = await self._all(self._keys.types, self._keys.type)
        return {JobType.model_validate_json(body).queue for body in bodies}

    async def waiting_webhooks(self) -> int:
        """Return how many webhooks wait in the delay ladder, among the jobs."""

        async def count(pipe: Any) -> int:
            pipe.zcount(self._keys.waiting, now().timestamp(), "+inf")
            (waiting,) = await pipe.execute()
            return int(waiting)

        return int(await self._ask(count))

    async def _all(self, names_key: str, key: Callable[[str], str]) -> list[bytes]:
        async def read(pipe: Any) -> list[bytes | None]:
            names: list[Any] = await self._redis.zrange(names_key, 0, -1)
            for name in names:
                pipe.get(key(name.decode()))
            found: list[bytes | None] = await pipe.execute()
            return found

        return [body for body in await self._ask(read) if body is not None]

    async def _ask(self, ask: Any) -> Any:
        with or_unavailable():
            async with self._redis.pipeline(transaction=False) as pipe:
                return await ask(pipe)


class RabbitHolders:
    """See `reconcile.Holders`. Queues of processors are those that anybody has announced."""

    def __init__(self, url: str, topology: Topology, accounts: RedisAccounts) -> None:
        self._url = url
        self._topology = topology
        self._accounts = accounts

    async def held(self) -> Mapping[str, int]:
        beats = await self._accounts.beats()
        waiting = await self._accounts.waiting_webhooks()
        names = sorted({queue for beat in beats for queue in beat.queues} | await self._accounts.queues())
        try:
            async with await aio_pika.connect(self._url, timeout=5) as connection:
                return {
                    "ready": await _ready(connection, self._topology.work_queues(names)),
                    "unacked": sum(beat.held for beat in beats),
                    "delayed": max(0, await _ready(connection, self._topology.ladder) - waiting),
                    "parked": await _ready(connection, (self._topology.parked,)),
                }
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError as error:
            raise_if_ours(error)
            raise LogUnavailable("the broker does not answer any more") from error


async def _ready(connection: AbstractConnection, queues: tuple[Queue, ...]) -> int:
    return sum(depth.ready for depth in (await depths(connection, queues)).values())
