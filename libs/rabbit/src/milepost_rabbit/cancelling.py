"""Whose cancellation it is, ours or aio-pika's; and a cancellation that is not lost."""

import asyncio
from collections.abc import Coroutine, Iterable
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
    what it waits for (python/cpython#86296), and libraries use it. Who is cancelled in here has ended the tasks first.
    """
    waiting = set(tasks)
    cancelled = None
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=ASK_AGAIN)
        except asyncio.CancelledError as error:
            cancelled = error
        for task in [task for task in waiting if task.done()]:
            waiting.remove(task)
            if not task.cancelled():
                task.exception()
    if cancelled is not None:
        raise cancelled


async def together(*acts: Coroutine[Any, Any, None]) -> None:
    """Do things at once until all are done, one fails, or we are cancelled; then end the others.

    `asyncio.TaskGroup` would wait for ever for one that lost its cancellation, and passes no second one on.
    """
    tasks = [asyncio.create_task(act) for act in acts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await end(tasks)
