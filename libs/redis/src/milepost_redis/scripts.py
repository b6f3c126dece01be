"""Lua scripts: files of a package, called by hash (EVALSHA)."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

Argument = str | bytes | int | float


class Script:
    """A Lua script, called by its hash, because its text is longer than its arguments.

    A server that was restarted or promoted has no scripts. Then `run` sends the text, and `calls.execute` loads the
    scripts of a pipeline.
    """

    def __init__(self, package: str, name: str, *, read_only: bool = False, reads_claims: bool = False) -> None:
        """Read the script from the file `name` of the package.

        Redis lets a read-only one write nothing. One that reads claims has the function of `read_claim.lua`.
        """
        self.text = files(package).joinpath(name).read_text()
        if reads_claims:
            self.text = files(__package__).joinpath("read_claim.lua").read_text() + self.text
        self._hash = self.hash_of(self.text)
        suffix = "_ro" if read_only else ""
        self._by_hash, self._by_text = f"evalsha{suffix}", f"eval{suffix}"

    @staticmethod
    def hash_of(text: str) -> str:
        """Return the hash by which Redis knows a script."""
        return sha1(text.encode(), usedforsecurity=False).hexdigest()

    def add_to(self, pipe: Any, keys: Sequence[str], *arguments: Argument) -> None:
        """Add a call of the script to a pipeline."""
        getattr(pipe, self._by_hash)(self._hash, len(keys), *keys, *arguments)

    async def run(self, redis: AsyncRedis, keys: Sequence[str], *arguments: Argument) -> Any:
        """Call the script and return its reply."""
        try:
            return await getattr(redis, self._by_hash)(self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return await getattr(redis, self._by_text)(self.text, len(keys), *keys, *arguments)

    def run_blocking(self, redis: Redis, keys: Sequence[str], *arguments: Argument) -> Any:
        """Call the script and return its reply, with a blocking client."""
        try:
            return getattr(redis, self._by_hash)(self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return getattr(redis, self._by_text)(self.text, len(keys), *keys, *arguments)
