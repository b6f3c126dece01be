"""Tells our cancellations from those of aio-pika, and cancels tasks reliably."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

CANCEL_AGAIN_AFTER = 3.0
"""Seconds until a task is cancelled again; longer than our tasks take to clean up."""


def raise_if_cancelled(error: asyncio.CancelledError) -> None:
    """Raise the error if this task was cancelled. aio-pika 10.2 raises it too, when the broker does not respond."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks repeatedly until they have ended, and discard their errors.

    Once is not enough: before Python 3.12, `asyncio.wait_for` loses a cancellation that arrives together with the
    result (python/cpython#86296), and libraries use it. If the caller is cancelled, `CancelledError` is raised after
    the tasks have ended.
    """
    waiting = set(tasks)
    cancelled = None
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=CANCEL_AGAIN_AFTER)
        except asyncio.CancelledError as error:
            cancelled = error
        for task in [task for task in waiting if task.done()]:
            waiting.remove(task)
            if not task.cancelled():
                task.exception()
    if cancelled is not None:
        raise cancelled


async def run_concurrently(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently until all are done, one fails, or the caller is cancelled; then cancel the others.

    `asyncio.TaskGroup` would wait for ever for a task that lost its cancellation, and does not cancel it again.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await cancel_and_wait(tasks)
