"""How the tracker calls Redis: errors become its own, scripts are files, and some questions go to every shard."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from milepost_contracts.keys import SHARDS
from milepost_tracker.errors import StoreUnavailable


@contextmanager
def or_unavailable() -> Iterator[None]:
    """Raise `StoreUnavailable` where Redis can't be asked, or does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(str(error)) from error


class Script:
    """A script of this package, called by its hash: it is longer than all that it is called with."""

    def __init__(self, name: str) -> None:
        self.text = files("milepost_tracker").joinpath("scripts", f"{name}.lua").read_text()
        self._hash = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def call(self, pipe: Any, keys: Sequence[str], *arguments: str | bytes | int) -> None:
        """Add a call of it to a pipeline; `execute` runs that."""
        pipe.evalsha(self._hash, len(keys), *keys, *arguments)


async def execute(redis: Redis, fill: Callable[[Any], object], *scripts: Script) -> list[Any]:
    """Return the answers to what `fill` puts into a pipeline, which calls these scripts.

    A server that was restarted or promoted has no scripts: it is given them, and all is asked once more. What is asked
    must do no harm when it is done twice.
    """
    with or_unavailable():
        try:
            return await _executed(redis, fill)
        except NoScriptError:
            for script in scripts:
                await redis.script_load(script.text)
            return await _executed(redis, fill)


async def _executed(redis: Redis, fill: Callable[[Any], object]) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipe:
        fill(pipe)
        answers: list[Any] = await pipe.execute()
    return answers


def milliseconds(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


async def in_every_shard(redis: Redis, ask: Callable[[Any, int], object], *scripts: Script) -> list[Any]:
    """Put one question to each shard, all in one round trip; return the answers by shard."""

    def fill(pipe: Any) -> None:
        for shard in range(SHARDS):
            ask(pipe, shard)

    return await execute(redis, fill, *scripts)
