"""Looks at jobs' hashes: what is asked for while others are on their way goes together, in one call."""

import asyncio
import itertools
from collections.abc import Sequence
from importlib.resources import files

from redis.asyncio import Redis
from redis.exceptions import RedisError

from milepost_contracts.keys import Keys, shard_of
from milepost_gateway.errors import NotKnownYet, StoreUnavailable

MOST_ON_THEIR_WAY = 2
"""Calls; with one alone, Redis and this process would wait for each other."""
MOST_AT_ONCE = 200
"""Jobs of one call: others get their turn in Redis."""
LOOK = files("milepost_gateway").joinpath("scripts", "look.lua").read_text()

Fields = list[bytes | None]


def not_known_yet() -> NotKnownYet:
    """What it has may be old, and what it lacks may exist: rather tell nothing."""
    return NotKnownYet(
        "Redis may have lost some of what it had; the trackers are looking, and bring it back from the log"
    )


class Watermarks:
    """The watermarks that this process has seen: one that goes back tells of writes that are lost."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def of(self, shard: int) -> int:
        return self._seen.get(shard, 0)

    def check(self, shard: int, at: bytes | None, *, before: int) -> None:
        """Take note of a watermark.

        Raises:
            NotKnownYet: Nobody vouches for the shard, or it has less than it had before the read began.
        """
        if at is None or int(at) < before:
            raise not_known_yet()
        self._seen[shard] = max(int(at), self._seen.get(shard, 0))


class Looks:
    """Looks at jobs, for many askers at once."""

    def __init__(self, redis: Redis, keys: Keys, watermarks: Watermarks, fields: Sequence[str]) -> None:
        self._redis = redis
        self._keys = keys
        self._watermarks = watermarks
        self._fields = fields
        self._asked: dict[str, list[asyncio.Future[Fields]]] = {}
        self._on_their_way: set[asyncio.Task[None]] = set()

    async def look(self, job_id: str) -> Fields:
        """Return these fields of a job's hash.

        Raises:
            NotKnownYet: Its shard can't be trusted now.
            StoreUnavailable: Redis can't be asked.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Fields] = loop.create_future()
        self._asked.setdefault(job_id, []).append(answer)
        if len(self._asked) == 1:
            loop.call_soon(self._send)
        return await answer

    def _send(self) -> None:
        if self._asked and len(self._on_their_way) < MOST_ON_THEIR_WAY:
            asked = dict(itertools.islice(self._asked.items(), MOST_AT_ONCE))
            self._asked = dict(itertools.islice(self._asked.items(), MOST_AT_ONCE, None))
            task = asyncio.create_task(self._answer(asked))
            self._on_their_way.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._on_their_way.discard(task)
        self._send()

    async def _answer(self, asked: dict[str, list[asyncio.Future[Fields]]]) -> None:
        found: Sequence[Fields | Exception]
        try:
            found = await self._read(list(asked))
        except (RedisError, OSError, TimeoutError) as error:
            found = [StoreUnavailable(str(error))] * len(asked)
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            found = [error] * len(asked)
        for answers, one in zip(asked.values(), found, strict=True):
            for answer in answers:
                if answer.done():
                    continue
                if isinstance(one, Exception):
                    answer.set_exception(one)
                else:
                    answer.set_result(one)

    async def _read(self, job_ids: Sequence[str]) -> Sequence[Fields | Exception]:
        shards = [shard_of(job_id) for job_id in job_ids]
        before = [self._watermarks.of(shard) for shard in shards]
        keys = [
            key
            for shard, job_id in zip(shards, job_ids, strict=True)
            for key in (self._keys.mark(shard), self._keys.job(job_id))
        ]
        answers: list[Fields] = await self._redis.eval(LOOK, len(keys), *keys, *self._fields)
        found: list[Fields | Exception] = []
        for shard, seen, (at, *fields) in zip(shards, before, answers, strict=True):
            try:
                self._watermarks.check(shard, at, before=seen)
                found.append(fields)
            except NotKnownYet as error:
                found.append(error)
        return found
