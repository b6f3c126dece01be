"""Whose cancellation it is, ours or aio-pika's; and a cancellation that is not lost."""

import asyncio
from collections.abc import Iterable
from typing import Any

ASK_AGAIN = 3.0
"""Seconds; longer than what a task of ours takes to clean up."""


def raise_if_ours(error: asyncio.CancelledError) -> None:
    """Tell our own cancellation from aio-pika's, which is how a stuck broker shows (guarantees §3)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raise is not told.

    Once is not enough: before Python 3.12, `asyncio.wait_for` loses a cancellation that comes in the same moment as
    what it waits for (python/cpython#86296), and libraries use it.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=ASK_AGAIN)
        for task in ended:
            if not task.cancelled():
                task.exception()
