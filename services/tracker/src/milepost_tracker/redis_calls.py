"""How the tracker calls Redis: errors become its own, scripts are files, and some questions go to every shard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from milepost_contracts.keys import SHARDS
from milepost_tracker.errors import StoreUnavailable


@contextmanager
def or_unavailable() -> Iterator[None]:
    """Raise `StoreUnavailable` where Redis can't be asked, or does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(str(error)) from error


def script(name: str) -> str:
    """Return the source of a script. It is sent whole (EVAL): a promoted replica has none by its hash."""
    return files("milepost_tracker").joinpath("scripts", f"{name}.lua").read_text()


def milliseconds(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


async def in_every_shard(redis: Redis, ask: Callable[[Any, int], object]) -> list[Any]:
    """Put one question to each shard, all in one round trip; return the answers by shard."""
    with or_unavailable():
        async with redis.pipeline(transaction=False) as pipe:
            for shard in range(SHARDS):
                ask(pipe, shard)
            answers: list[Any] = await pipe.execute()
    return answers
