"""How the gateway calls Redis: its errors become the gateway's own, and the same question is put once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from redis.exceptions import RedisError

from milepost_gateway.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


def or_unavailable(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Raise `StoreUnavailable` where Redis can't be asked, or does not answer."""

    @wraps(call)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await call(*args, **kwargs)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(str(error)) from error

    return wrapped


class AskedOnce(Generic[T]):
    """Puts a question once for all who ask the same before it is put: a change of a job wakes all of its readers.

    Who asks later has it put again: an answer on its way may not know yet of the change that they heard of.
    """

    def __init__(self) -> None:
        self._asked: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, question: Hashable, put: Callable[[], Awaitable[T]]) -> T:
        """Return what `put` returns, or raise what it raises."""
        asking = self._asked.get(question)
        if asking is None:
            asking = self._asked[question] = asyncio.create_task(self._put(question, put))
            asking.add_done_callback(_heeded)
        return await asyncio.shield(asking)

    async def _put(self, question: Hashable, put: Callable[[], Awaitable[T]]) -> T:
        del self._asked[question]
        return await put()


def _heeded(asking: asyncio.Task[T]) -> None:
    """Everybody who asked may have left meanwhile."""
    if not asking.cancelled():
        asking.exception()
