"""The status view and the fleet in Redis, read only."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from milepost_contracts import document, steps
from milepost_contracts.fleet import Beat, JobType
from milepost_contracts.keys import Keys, shard_of
from milepost_contracts.states import Status
from milepost_contracts.values import Value
from milepost_contracts.webhooks import WebhookTry
from milepost_gateway.errors import JobExpired
from milepost_gateway.listing import Listing
from milepost_gateway.looks import Looks, Watermarks
from milepost_gateway.ports import Happened, Place, Snapshot, Stored, Told
from milepost_gateway.redis_calls import AskedOnce, or_unavailable

FIELDS = ("version", "state", "cancel", "evidence", "status", "cancel_key", "sequence", "gone")
SHOT = ("state", "hidden", "status")
LISTEN = files("milepost_gateway").joinpath("scripts", "listen.lua").read_text()
TERMINAL = frozenset(status.value.encode() for status in Status if status.terminal)
RUN = 4
"""So many characters of a sequence, and of a cancel's key, say of which run they are."""

V = TypeVar("V", bound=Value)

log = structlog.get_logger(__name__)


class RedisStatusStore:
    """See `ports.StatusStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._watermarks = Watermarks()
        self._listing = Listing(redis, keys)
        self._tellings = AskedOnce[Told | None]()
        self._statuses, self._snapshots = (Looks(redis, keys, self._watermarks, fields) for fields in (FIELDS, SHOT))

    async def get(self, job_id: str) -> Stored | None:
        found = await self._statuses.look(job_id)
        stored = _stored(found)
        if stored is None and found[-1] is not None:
            raise JobExpired
        return stored

    async def told(self, job_id: str, since: int, *, latest: bool = False, since_time: int = 0) -> Told | None:
        question = (job_id, since, latest, since_time)
        return await self._tellings.ask(question, lambda: self._told(*question))

    @or_unavailable
    async def _told(self, job_id: str, since: int, latest: bool, since_time: int) -> Told | None:
        shard = shard_of(job_id)
        before = self._watermarks.of(shard)
        keys = (self._keys.mark(shard), self._keys.job(job_id))
        answer: list[bytes | None] = await self._redis.eval(LISTEN, 2, *keys, since, int(latest), since_time)
        at, *found = answer
        self._watermarks.check(shard, at, before=before)
        if not found:
            return None
        version, terminal, gap, *events = found
        pairs = zip(events[::2], events[1::2], strict=True)
        return Told(
            version=int(version or 0),
            terminal=terminal == b"1",
            gap=gap == b"1",
            events=tuple(Happened(int(at), *steps.read(event)) for at, event in pairs if at and event),
        )

    async def snapshot(self, job_id: str) -> Snapshot | None:
        state, hidden, status = await self._snapshots.look(job_id)
        if state is None or hidden is None or status is None:
            return None
        return Snapshot(job=document.job_of(state, hidden), status=Status(status.decode()))

    @or_unavailable
    async def dead_letters(
        self, *, tenant: str, before: Place | None, limit: int
    ) -> Sequence[tuple[Place, Snapshot | None]]:
        newest = await self._listing.newest(lambda shard: self._keys.dead(shard, tenant=tenant), before, limit)
        return [(place, await self.snapshot(place.job_id)) for place in newest]

    @or_unavailable
    async def poison(self, limit: int) -> Sequence[bytes]:
        keys: list[Any] = await self._redis.zrange(self._keys.poisons, 0, limit - 1, desc=True)
        if not keys:
            return []
        found: list[Any] = await self._redis.mget([self._keys.poison(key.decode()) for key in keys])
        return [body for body in found if body is not None]

    @or_unavailable
    async def page(
        self,
        *,
        tenant: str,
        type_name: str | None,
        status: Status | None,
        before: Place | None,
        limit: int,
        batch: str | None = None,
    ) -> Sequence[tuple[Place, Stored | None]]:
        def index(shard: int) -> str:
            return self._index(shard, tenant=tenant, type_name=type_name, status=status, batch=batch)

        newest = await self._listing.newest(index, before, limit)
        async with self._redis.pipeline(transaction=False) as pipe:
            for place in newest:
                pipe.hmget(self._keys.job(place.job_id), *FIELDS)
            found = await pipe.execute()
        return [(place, _stored(fields)) for place, fields in zip(newest, found, strict=True)]

    @or_unavailable
    async def tagged(
        self, tag: str, *, tenant: str, since: int, limit: int, newest: bool = False
    ) -> tuple[int, Sequence[tuple[str, int]]]:
        key = self._keys.tagged(tenant, tag)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()  # first: what changes meanwhile is found the next time
            if newest:
                pipe.zrevrange(key, 0, limit - 1, withscores=True)
            else:
                pipe.zrangebyscore(key, since, "+inf", start=0, num=limit, withscores=True)
            (seconds, microseconds), found = await pipe.execute()
        return seconds * 1000 + microseconds // 1000, [(job_id.decode(), int(at)) for job_id, at in found]

    @or_unavailable
    async def counts(self, *, tenant: str, batch: str | None = None) -> Mapping[Status, int]:
        def of_each_state(pipe: Any, shard: int) -> None:
            for status in Status:
                pipe.zcard(self._index(shard, tenant=tenant, type_name=None, status=status, batch=batch))

        counted = await self._listing.ask_shards(of_each_state)
        return {status: sum(shard[number] for shard in counted) for number, status in enumerate(Status)}

    def _index(
        self, shard: int, *, tenant: str, type_name: str | None, status: Status | None, batch: str | None
    ) -> str:
        if batch is not None:
            return self._keys.batch(shard, batch, status)
        return self._keys.index(shard, tenant=tenant, type_name=type_name, status=status)

    async def answers(self) -> bool:
        try:
            await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True


class RedisWebhookLog:
    """See `ports.WebhookLog`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @or_unavailable
    async def tries(self, job_id: str) -> Sequence[WebhookTry]:
        bodies: list[Any] = await self._redis.lrange(self._keys.webhooks(job_id), 0, -1)
        return _readable(WebhookTry, bodies)


class RedisFleetStore:
    """See `ports.FleetStore`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @or_unavailable
    async def job_types(self) -> Sequence[JobType]:
        return _readable(JobType, await self._all(self._keys.types, self._keys.type))

    @or_unavailable
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
    version, state, cancel, evidence, status, cancel_key, sequence, _ = fields
    if version is None or state is None or status is None:
        return None
    if (cancel_key or b"")[:RUN] != (sequence or b"")[:RUN]:
        cancel = None  # asked of another run
    at = int(version)
    body = document.assemble(at, state, cancel, evidence)
    return Stored(at, body, terminal=status in TERMINAL, cancel_requested=bool(cancel))
