"""Calls to Redis: translates errors to those of the service, and loads scripts that a server lacks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError, RedisError

from milepost_contracts.status.redis_keys import SHARDS
from milepost_redis.scripts import Script


@contextmanager
def raising(kind: type[Exception]) -> Iterator[None]:
    """Raise an error of this kind if Redis can't be reached, does not answer in time, or reports an error."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise kind(str(error)) from error


async def execute(redis: AsyncRedis, fill: Callable[[Any], object], *scripts: Script) -> list[Any]:
    """Send the commands that `fill` adds to a pipeline, and return the replies.

    If the server lacks one of the scripts, all are loaded and the complete pipeline is sent again: its commands must be
    idempotent.
    """
    try:
        return await _executed(redis, fill)
    except NoScriptError:
        for script in scripts:
            await redis.script_load(script.text)
        return await _executed(redis, fill)


async def _executed(redis: AsyncRedis, fill: Callable[[Any], object]) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipe:
        fill(pipe)
        answers: list[Any] = await pipe.execute()
    return answers


def execute_blocking(redis: Redis, fill: Callable[[Any], object], *scripts: Script) -> list[Any]:
    """Do what `execute` does, with a blocking client."""
    try:
        return _executed_blocking(redis, fill)
    except NoScriptError:
        for script in scripts:
            redis.script_load(script.text)
        return _executed_blocking(redis, fill)


def _executed_blocking(redis: Redis, fill: Callable[[Any], object]) -> list[Any]:
    with redis.pipeline(transaction=False) as pipe:
        fill(pipe)
        answers: list[Any] = pipe.execute()
    return answers


async def in_every_shard(redis: AsyncRedis, add: Callable[[Any, int], object], *scripts: Script) -> list[Any]:
    """Send one pipeline with the command that `add` adds for each shard; return the replies by shard."""

    def fill(pipe: Any) -> None:
        for shard in range(SHARDS):
            add(pipe, shard)

    return await execute(redis, fill, *scripts)


def milliseconds(length: timedelta) -> int:
    """Return a duration in whole milliseconds, as Redis commands take it."""
    return int(length.total_seconds() * 1000)


def milliseconds_since_1970(moment: datetime) -> int:
    """Return a time as the scripts and scores in Redis have it."""
    return int(moment.timestamp() * 1000)
