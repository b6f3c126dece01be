"""The status view and the fleet in Redis, read only."""

import heapq
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from milepost_contracts import document
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.keys import SHARDS, Keys
from milepost_contracts.states import Status
from milepost_contracts.values import Value
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports import Stored

FIELDS = ("version", "state", "cancel", "status")

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V", bound=Value)

log = structlog.get_logger(__name__)


def _or_unavailable(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    @wraps(call)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await call(*args, **kwargs)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(str(error)) from error

    return wrapped


class RedisStatusStore:
    """See `ports.StatusStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @_or_unavailable
    async def get(self, job_id: str) -> Stored | None:
        fields: list[Any] = await self._redis.hmget(self._keys.job(job_id), *FIELDS)
        return _stored(fields)

    @_or_unavailable
    async def page(
        self, *, type_name: str | None, status: Status | None, before: str | None, limit: int
    ) -> Sequence[tuple[str, Stored]]:
        newest = await self._newest(type_name, status, before, limit)
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in newest:
                pipe.hmget(self._keys.job(job_id), *FIELDS)
            found = await pipe.execute()
        pairs = ((job_id, _stored(fields)) for job_id, fields in zip(newest, found, strict=True))
        return [(job_id, stored) for job_id, stored in pairs if stored is not None]

    async def _newest(self, type_name: str | None, status: Status | None, before: str | None, limit: int) -> list[str]:
        """Merge the newest ids of every shard: ids sort by the time of their submission."""
        highest = f"({before}" if before else "+"
        async with self._redis.pipeline(transaction=False) as pipe:
            for shard in range(SHARDS):
                index = self._keys.index(shard, type_name=type_name, status=status)
                pipe.zrevrangebylex(index, highest, "-", start=0, num=limit)
            shards: list[list[bytes]] = await pipe.execute()
        return [job_id.decode() for job_id in heapq.nlargest(limit, (one for shard in shards for one in shard))]

    async def answers(self) -> bool:
        try:
            await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True


class RedisFleetStore:
    """See `ports.FleetStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @_or_unavailable
    async def job_types(self) -> Sequence[JobType]:
        return _readable(JobType, await self._all(self._keys.types, self._keys.type))

    @_or_unavailable
    async def processors(self) -> Sequence[Beat]:
        return _readable(Beat, await self._all(self._keys.processors, self._keys.processor))

    async def _all(self, names_key: str, key: Callable[[str], str]) -> list[Any]:
        listed: list[Any] = await self._redis.zrange(names_key, 0, -1)
        names = sorted(name.decode() for name in listed)
        if not names:
            return []
        return [body for body in await self._redis.mget([key(name) for name in names]) if body is not None]


def _readable(kind: type[V], bodies: Sequence[bytes]) -> list[V]:
    """Leave out what can't be read, of a newer release perhaps: it must not hide the rest."""
    found = []
    for body in bodies:
        try:
            found.append(kind.model_validate_json(body))
        except ValidationError as error:
            log.warning("announcement_unreadable", kind=kind.__name__, error=str(error))
    return found


def _stored(fields: Sequence[bytes | None]) -> Stored | None:
    version, state, cancel, status = fields
    if version is None or state is None or status is None:
        return None
    body = document.assemble(int(version), state, cancel or b"null")
    return Stored(int(version), body, terminal=Status(status.decode()).terminal)
