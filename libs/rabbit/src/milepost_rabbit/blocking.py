"""Whether the broker takes messages over a connection: it blocks those that publish while it lacks memory or disk."""

import asyncio
from collections.abc import Coroutine
from typing import cast

from aio_pika.abc import AbstractConnection

CHECK_INTERVAL = 0.1
"""Seconds between two checks of a connection."""


def takes_messages(connection: AbstractConnection) -> bool:
    """Return whether the broker takes messages over this connection now."""
    if connection.transport is None or not connection.connected.is_set():
        return False
    waiting = cast("Coroutine[None, None, None]", connection.transport.ready())
    try:
        waiting.send(None)
    except StopIteration:
        return True  # there was nothing to wait for
    waiting.close()
    return False


async def wait_unblocked(connection: AbstractConnection) -> None:
    """Wait until the broker takes messages; `connection.ready` waits only for the connection (aio-pika 10.2.1)."""
    if connection.transport is not None:
        await connection.transport.ready()


async def is_blocked(connection: AbstractConnection) -> bool:
    """Return whether the broker takes no messages over this connection for a moment."""
    try:
        async with asyncio.timeout(CHECK_INTERVAL):
            await wait_unblocked(connection)
    except TimeoutError:
        return True
    return False
