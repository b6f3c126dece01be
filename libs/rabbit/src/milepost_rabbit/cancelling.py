"""Whose cancellation it is: ours, or aio-pika's."""

import asyncio


def raise_if_ours(error: asyncio.CancelledError) -> None:
    """Tell our own cancellation from aio-pika's, which is how a stuck broker shows (guarantees §3)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
