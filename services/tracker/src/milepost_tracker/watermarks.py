"""What tells a shard of Redis that has all that was written there from one that has forgotten something: ADR 7.

Every tracker has a watermark of its own in each shard, which every write raises. If one is lower than it was, writes
are lost: the shard is not whole until the log was replayed. A shard is whole on one server, which the `run_id` names:
another one, such as a promoted replica, is vouched for when no tracker has objected for a while.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.keys import Keys
from milepost_tracker.redis_calls import Script, execute, in_every_shard, milliseconds, or_unavailable

VOUCH_AFTER = timedelta(seconds=3)
"""How long the other trackers have to object, before one says that a server which is new has all that was there."""
ALIVE_FOR = timedelta(seconds=15)
"""How long a tracker that has not looked at the new server is waited for: it may sleep until Redis is back."""
REPLAY_HELD_FOR = timedelta(seconds=30)


class RedisWatermarks:
    """See `ports.Watermarks`."""

    def __init__(self, redis: Redis, keys: Keys, *, lasts: timedelta) -> None:
        """Prepare; a watermark that nobody raises is remembered for as long as `lasts`."""
        self._redis = redis
        self._keys = keys
        self._lasts = lasts
        self._mark, self._vouch, self._looked = Script("mark"), Script("vouch"), Script("looked")
        #: How many other trackers are alive, and have not looked at this server yet.
        self._behind = 0
        #: The server that the last look found, since when, and the shards that nobody vouches for there.
        self._server, self._server_since = "", 0.0
        self._unvouched: list[int] = []
        #: The watermarks that this process has seen, by shard.
        self._seen: dict[int, int] = {}
        #: Whose watermarks these are.
        self.owner = token_hex(8)

    def seen(self, shard: int) -> int:
        """Return what this one's watermark was last; 0 if it has none yet."""
        return self._seen.get(shard, 0)

    def note(self, shard: int, mark: int) -> None:
        """Remember what a write has raised the watermark to."""
        self._seen[shard] = mark

    async def lost_shards(self) -> dict[int, datetime | None]:
        await self._notice_server()
        fields = ("whole", self.owner, "replayed")
        seen = dict(self._seen)  # as of now: others write while this one reads
        marks = await in_every_shard(self._redis, lambda pipe, shard: pipe.hmget(self._keys.mark(shard), *fields))
        lost: dict[int, datetime | None] = {}
        self._unvouched = [shard for shard, (whole, *_) in enumerate(marks) if whole != self._server.encode()]
        for shard, (whole, own, replayed) in enumerate(marks):
            if int(own or 0) < seen.get(shard, 0):
                if whole is not None and int(replayed or 0) > seen[shard]:
                    del self._seen[shard]  # another tracker has brought back what this one missed
                else:
                    lost[shard] = datetime.fromtimestamp(int(own) / 1000, UTC) if own and whole else None
            elif whole is None:
                lost[shard] = None
        if lost:
            with or_unavailable():
                async with self._redis.pipeline(transaction=False) as pipe:
                    for shard in lost:
                        pipe.hdel(self._keys.mark(shard), "whole")
                    await pipe.execute()
        arguments = (self.owner, milliseconds(ALIVE_FOR), milliseconds(2 * ALIVE_FOR))
        (self._behind,) = await execute(
            self._redis, lambda pipe: self._looked.call(pipe, [self._keys.lookers], *arguments), self._looked
        )
        return lost

    async def leave(self) -> None:
        """Let nobody wait for this one any more."""
        with or_unavailable():
            await self._redis.hdel(self._keys.lookers, self.owner)

    async def _notice_server(self) -> None:
        with or_unavailable():
            server = str((await self._redis.info("server"))["run_id"])
        if server != self._server:
            self._server, self._server_since = server, time.monotonic()

    @property
    def vouched(self) -> bool:
        return not self._unvouched

    async def vouch(self) -> bool:
        new = time.monotonic() - self._server_since < VOUCH_AFTER.total_seconds()
        if self._unvouched and (new or self._behind):
            return False

        def fill(pipe: Any) -> None:
            for shard in self._unvouched:
                self._vouch.call(pipe, [self._keys.mark(shard)])

        return all(await execute(self._redis, fill, self._vouch))

    async def begin_replay(self, shards: Iterable[int]) -> None:
        def note(pipe: Any) -> None:
            for shard in shards:
                pipe.hset(self._keys.mark(shard), "replaying", self.owner)
                pipe.pexpire(self._keys.mark(shard), self._lasts)

        await execute(self._redis, note)

    async def mark(self, shards: Iterable[int]) -> bool:
        lasts = milliseconds(self._lasts)
        with or_unavailable():
            seconds, microseconds = await self._redis.time()
        at = max(int(seconds) * 1000 + int(microseconds) // 1000, *self._seen.values(), 0) + 1
        marked = list(shards)

        def fill(pipe: Any) -> None:
            for shard in marked:
                self._mark.call(pipe, [self._keys.mark(shard)], self.owner, at, lasts)

        answers = await execute(self._redis, fill, self._mark)
        whole = [shard for shard, answer in zip(marked, answers, strict=True) if answer]
        self._seen.update(dict.fromkeys(whole, at))
        return len(whole) == len(marked)

    async def hold_replay(self) -> bool:
        with or_unavailable():
            held: Any = await self._redis.set(self._keys.replay, self.owner, nx=True, px=REPLAY_HELD_FOR)
            if not held and await self._redis.get(self._keys.replay) == self.owner.encode():
                held = await self._redis.pexpire(self._keys.replay, REPLAY_HELD_FOR)
        return bool(held)

    async def end_replay(self) -> None:
        with or_unavailable():
            if await self._redis.get(self._keys.replay) == self.owner.encode():
                await self._redis.delete(self._keys.replay)
