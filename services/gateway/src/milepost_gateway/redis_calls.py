"""How the gateway calls Redis: its errors become the gateway's own."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

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
