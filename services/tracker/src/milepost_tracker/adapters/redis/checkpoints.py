"""Tells whether Redis has lost writes, by shard: ADR 7.

Every tracker has a checkpoint of its own in each shard, which every write raises. If one is lower than it was, writes
were lost: the shard is incomplete until the log was replayed. A shard is complete on one server, which the `run_id`
names. On a new server, such as a promoted replica, it is confirmed as complete when no tracker objects for a while.

A server that was started from an old snapshot lacks writes of which no tracker may know any more. So each shard also
has the time until which events were applied, and a tracker applies the log from there on before it confirms the server.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.status.redis_keys import Keys
from milepost_redis.calls import execute, in_every_shard, milliseconds, raising
from milepost_redis.scripts import Script
from milepost_tracker.errors import StoreUnavailable

OBJECTION_PERIOD = timedelta(seconds=3)
"""How long the other trackers have to object, before one confirms that a new server has all there was."""
TRACKER_TTL = timedelta(seconds=15)
"""How long a tracker that has not checked the new server is waited for: it may be backing off while Redis is away."""
REPLAY_LOCK_TTL = timedelta(seconds=30)

_PACKAGE = "milepost_tracker.adapters.redis"


class RedisCheckpoints:
    """Implements `ports.checkpoints.Checkpoints`."""

    def __init__(self, redis: Redis, keys: Keys, *, lasts: timedelta) -> None:
        """Use these keys; a checkpoint that is not raised any more expires after `lasts`."""
        self._redis = redis
        self._keys = keys
        self._lasts = lasts
        self._mark_complete, self._confirm_complete, self._check_server = (
            Script(_PACKAGE, name) for name in ("mark_complete.lua", "confirm_complete.lua", "check_server.lua")
        )
        #: How many other trackers are alive, and have not checked this server yet.
        self._behind = 0
        #: The server of the last check, since when it is there, and the shards that are not confirmed on it.
        self._server, self._server_since = "", 0.0
        self._unconfirmed: list[int] = []
        self._applied_until: datetime | None = None
        #: The checkpoints of this process, by shard.
        self._raised: dict[int, int] = {}
        #: Names the checkpoints of this process.
        self.owner = token_hex(8)

    def last(self, shard: int) -> int:
        """Return the last checkpoint of this process; 0 if it has none yet."""
        return self._raised.get(shard, 0)

    def record(self, shard: int, checkpoint: int) -> None:
        """Record the checkpoint of a write."""
        self._raised[shard] = checkpoint

    async def lost_shards(self) -> dict[int, datetime | None]:
        with raising(StoreUnavailable):
            return await self._find_lost()

    async def _find_lost(self) -> dict[int, datetime | None]:
        await self._notice_server()
        fields = ("complete", self.owner, "replayed", "until")
        raised = dict(self._raised)  # as of now: writes go on while this reads
        checkpoints = await in_every_shard(
            self._redis, lambda pipe, shard: pipe.hmget(self._keys.checkpoint(shard), *fields)
        )
        lost: dict[int, datetime | None] = {}
        self._unconfirmed = [
            shard for shard, (complete, *_) in enumerate(checkpoints) if complete != self._server.encode()
        ]
        self._applied_until = _applied_until([checkpoints[shard] for shard in self._unconfirmed])
        for shard, (complete, own, replayed, _) in enumerate(checkpoints):
            if int(own or 0) < raised.get(shard, 0):
                if complete is not None and int(replayed or 0) > raised[shard]:
                    del self._raised[shard]  # another tracker has restored what was lost
                else:
                    lost[shard] = datetime.fromtimestamp(int(own) / 1000, UTC) if own and complete else None
            elif complete is None:
                lost[shard] = None

        def withdraw(pipe: Any) -> None:
            for shard in lost:
                pipe.hdel(self._keys.checkpoint(shard), "complete")

        if lost:
            await execute(self._redis, withdraw)
        ttls = (milliseconds(TRACKER_TTL), milliseconds(2 * TRACKER_TTL))
        self._behind = await self._check_server.run(self._redis, [self._keys.trackers], self.owner, *ttls)
        return lost

    async def leave(self) -> None:
        with raising(StoreUnavailable):
            await self._redis.hdel(self._keys.trackers, self.owner)

    async def _notice_server(self) -> None:
        server = str((await self._redis.info("server"))["run_id"])
        if server != self._server:
            self._server, self._server_since = server, time.monotonic()

    @property
    def confirmed(self) -> bool:
        return not self._unconfirmed

    @property
    def server(self) -> str:
        return self._server

    @property
    def applied_until(self) -> datetime | None:
        return self._applied_until

    async def confirm_complete(self) -> bool:
        is_new = time.monotonic() - self._server_since < OBJECTION_PERIOD.total_seconds()
        if self._unconfirmed and (is_new or self._behind):
            return False

        def fill(pipe: Any) -> None:
            for shard in self._unconfirmed:
                self._confirm_complete.add_to(pipe, [self._keys.checkpoint(shard)])

        with raising(StoreUnavailable):
            return all(await execute(self._redis, fill, self._confirm_complete))

    async def begin_replay(self, shards: Iterable[int]) -> None:
        def fill(pipe: Any) -> None:
            for shard in shards:
                pipe.hset(self._keys.checkpoint(shard), "replaying", self.owner)
                pipe.pexpire(self._keys.checkpoint(shard), self._lasts)

        with raising(StoreUnavailable):
            await execute(self._redis, fill)

    async def mark_complete(self, shards: Iterable[int]) -> bool:
        lasts, replayed = milliseconds(self._lasts), list(shards)
        with raising(StoreUnavailable):
            seconds, microseconds = await self._redis.time()
            at = max(int(seconds) * 1000 + int(microseconds) // 1000, *self._raised.values(), 0) + 1

            def fill(pipe: Any) -> None:
                for shard in replayed:
                    self._mark_complete.add_to(pipe, [self._keys.checkpoint(shard)], self.owner, at, lasts)

            answers = await execute(self._redis, fill, self._mark_complete)
        complete = [shard for shard, answer in zip(replayed, answers, strict=True) if answer]
        self._raised.update(dict.fromkeys(complete, at))
        return len(complete) == len(replayed)

    async def hold_replay(self) -> bool:
        with raising(StoreUnavailable):
            held: Any = await self._redis.set(self._keys.replay, self.owner, nx=True, px=REPLAY_LOCK_TTL)
            if not held and await self._redis.get(self._keys.replay) == self.owner.encode():
                held = await self._redis.pexpire(self._keys.replay, REPLAY_LOCK_TTL)
        return bool(held)

    async def end_replay(self) -> None:
        with raising(StoreUnavailable):
            if await self._redis.get(self._keys.replay) == self.owner.encode():
                await self._redis.delete(self._keys.replay)


def _applied_until(checkpoints: Iterable[Sequence[bytes | None]]) -> datetime | None:
    """Return the time until which events were applied to shards; `None` if that is not known of one of their servers.

    The data of a server are as of one moment, so what one of its shards shows holds for all of them. Shards whose
    `complete` names the same server have been on it together.
    """
    by_server: dict[bytes | None, int] = {}
    for complete, _, _, until in checkpoints:
        by_server[complete] = max(int(until or 0), by_server.get(complete, 0))
    earliest = min(by_server.values(), default=0)
    return datetime.fromtimestamp(earliest / 1000, UTC) if earliest else None
