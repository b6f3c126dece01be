"""The status view in Redis, read only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from milepost_contracts.states import Status
from milepost_contracts.status import history, render
from milepost_contracts.status.redis_keys import Keys, shard_of
from milepost_contracts.status.summary import read_summary
from milepost_gateway.adapters.redis.batched_reads import BatchedReads
from milepost_gateway.adapters.redis.checkpoints import SeenCheckpoints
from milepost_gateway.errors import JobExpired, NotKnownYet, StoreUnavailable
from milepost_gateway.ports.status_store import Event, EventsRead, Snapshot, StoredDocument
from milepost_redis.calls import execute, raising
from milepost_redis.scripts import Script

DOCUMENT_FIELDS = ("version", "state", "cancel", "evidence", "status", "summary", "cancel_key", "sequence", "deleted")
SNAPSHOT_FIELDS = ("state", "hidden", "status")
_RUN_LENGTH = 4
"""Number of digits of the run, with which a sequence and a cancel key begin."""

Fields = list[bytes | None]


class _EventsQuery(NamedTuple):
    job_id: str
    since: int
    latest: bool
    since_time: int


class RedisStatusStore:
    """Implements `ports.status_store.StatusStore` with batched reads of complete shards."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._checkpoints = SeenCheckpoints()
        self._read_jobs = Script("milepost_gateway.adapters.redis", "read_jobs.lua", read_only=True)
        self._read_events = Script("milepost_gateway.adapters.redis", "read_events.lua", read_only=True)
        self._documents = BatchedReads[str, Fields](lambda ids: self._fields(ids, DOCUMENT_FIELDS))
        self._snapshots = BatchedReads[str, Fields](lambda ids: self._fields(ids, SNAPSHOT_FIELDS))
        self._events = BatchedReads[_EventsQuery, EventsRead | None](self._query_events)

    async def get(self, job_id: str) -> StoredDocument | None:
        fields = await self._documents.get(job_id)
        stored = stored_document(fields)
        if stored is None and fields[-1] is not None:
            raise JobExpired
        return stored

    async def snapshot(self, job_id: str) -> Snapshot | None:
        state, hidden, status = await self._snapshots.get(job_id)
        if state is None or hidden is None or status is None:
            return None
        return Snapshot(job=render.job_of(state, hidden), status=Status(status.decode()))

    async def events(self, job_id: str, since: int, *, latest: bool = False, since_time: int = 0) -> EventsRead | None:
        return await self._events.get(_EventsQuery(job_id, since, latest, since_time))

    async def answers(self) -> bool:
        try:
            await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def _fields(self, job_ids: Sequence[str], names: Sequence[str]) -> Sequence[Fields | Exception]:
        shards = [shard_of(job_id) for job_id in job_ids]
        before = [self._checkpoints.of(shard) for shard in shards]
        keys = [
            key
            for shard, job_id in zip(shards, job_ids, strict=True)
            for key in (self._keys.checkpoint(shard), self._keys.job(job_id))
        ]
        with raising(StoreUnavailable):
            answers: list[Fields] = await self._read_jobs.run(self._redis, keys, *names)
        return [
            self._checked(shard, at, seen) or fields
            for shard, seen, (at, *fields) in zip(shards, before, answers, strict=True)
        ]

    async def _query_events(self, queries: Sequence[_EventsQuery]) -> Sequence[EventsRead | Exception | None]:
        shards = [shard_of(query.job_id) for query in queries]
        before = [self._checkpoints.of(shard) for shard in shards]

        def fill(pipe: Any) -> None:
            for shard, (job_id, since, latest, since_time) in zip(shards, queries, strict=True):
                keys = [self._keys.checkpoint(shard), self._keys.job(job_id)]
                self._read_events.add_to(pipe, keys, since, int(latest), since_time)

        with raising(StoreUnavailable):
            answers: list[Fields] = await execute(self._redis, fill, self._read_events)
        return [
            self._checked(shard, at, seen) or _events_read(found)
            for shard, seen, (at, *found) in zip(shards, before, answers, strict=True)
        ]

    def _checked(self, shard: int, at: bytes | None, before: int) -> NotKnownYet | None:
        """Return the error of a shard that can't be trusted now, if it can't."""
        try:
            self._checkpoints.check(shard, at, before=before)
        except NotKnownYet as error:
            return error
        return None


def stored_document(fields: Fields) -> StoredDocument | None:
    """Return the document that is stored in these `DOCUMENT_FIELDS` of a job's hash, if there is one."""
    version, state, cancel, evidence, status, summary, cancel_key, sequence, _ = fields
    if version is None or state is None or status is None or summary is None:
        return None
    if (cancel_key or b"")[:_RUN_LENGTH] != (sequence or b"")[:_RUN_LENGTH]:
        cancel = None  # requested of another run
    return StoredDocument(
        version=int(version),
        state=state,
        summary=read_summary(Status(status.decode()), summary),
        cancel_requested=render.cancel_requested(cancel, evidence) if cancel else None,
    )


def _events_read(found: Fields) -> EventsRead | None:
    if not found:
        return None
    version, terminal, gap, *events = found
    pairs = zip(events[::2], events[1::2], strict=True)
    return EventsRead(
        version=int(version or 0),
        terminal=terminal == b"1",
        gap=gap == b"1",
        events=tuple(Event(int(at), *history.read(event)) for at, event in pairs if at and event),
    )
