"""Polling in place of sleeps; the error names what did not happen in time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(ask: Callable[[], T], *, within: float, what: str) -> T:
    """Return the first true answer of `ask`.

    Raises:
        AssertionError: There was none in `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}; the last answer was {answer!r}")
        time.sleep(0.02)


async def wait_until_async(ask: Callable[[], Awaitable[T]], *, within: float, what: str) -> T:
    """Do as `wait_until`, with an `ask` that is awaited."""
    deadline = time.monotonic() + within
    while True:
        answer = await ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}; the last answer was {answer!r}")
        await asyncio.sleep(0.02)
