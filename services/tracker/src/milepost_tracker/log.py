"""The log of lifecycle events: a stream, read from an explicit offset, on a plain connection.

(A robust one would subscribe again with its first offset: it would miss what came meanwhile, or read all anew.)
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.topology import Topology
from milepost_rabbit.cancelling import raise_if_ours
from milepost_tracker.errors import LogUnavailable

PREFETCH = 2_000
BATCH = 20_000
FIRST_WITHIN = 3.0
"""Seconds within which the last chunk of a log that is not empty begins to arrive."""
REST_WITHIN = 2.0
"""Seconds within which all of that chunk has arrived; more may come all the while."""
NEXT_WITHIN = 0.3
"""Seconds without a message after which nothing more is to come."""
SILENT = 30.0
"""Seconds without a message after which a log that must go on counts as unavailable."""
SILENT_SINCE = 3.0
"""The same when it is read from a time on: nothing may have been said since."""


class StreamLog:
    """See `ports.Log`."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._url = url
        self._queue = topology.log.name

    async def read(self, since: datetime | None) -> AsyncIterator[Sequence[bytes]]:
        try:
            async with await aio_pika.connect(self._url, timeout=5) as connection:
                end = await self._last_offset(connection)
                if end is None:
                    return
                async with self._consume(connection, since or "first") as arrived:
                    async for batch in _until(arrived, end, may_end=since is not None):
                        yield batch
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError as error:
            raise_if_ours(error)
            raise LogUnavailable("the broker does not answer any more") from error

    async def _last_offset(self, connection: AbstractConnection) -> int | None:
        """Return the offset of what is the last message now; nothing if the log is empty."""
        last = None
        async with self._consume(connection, "last") as arrived:
            with suppress(TimeoutError):
                last = await _next(arrived, FIRST_WITHIN)
                async with asyncio.timeout(REST_WITHIN):
                    while True:
                        last = await _next(arrived, NEXT_WITHIN)
        return last

    @asynccontextmanager
    async def _consume(
        self, connection: AbstractConnection, offset: str | datetime
    ) -> AsyncIterator[asyncio.Queue[AbstractIncomingMessage]]:
        channel = await connection.channel()
        try:
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.get_queue(self._queue, ensure=False)
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await queue.consume(arrived.put, arguments={"x-stream-offset": offset})
            yield arrived
        finally:
            await channel.close()


async def _next(arrived: asyncio.Queue[AbstractIncomingMessage], within: float) -> int:
    async with asyncio.timeout(within):
        message = await arrived.get()
    await message.ack()
    return _offset(message)


async def _until(
    arrived: asyncio.Queue[AbstractIncomingMessage], end: int, *, may_end: bool
) -> AsyncIterator[Sequence[bytes]]:
    batch: list[bytes] = []
    unconfirmed = 0
    at = -1
    while at < end:
        try:
            async with asyncio.timeout(SILENT_SINCE if may_end else SILENT):
                message = await arrived.get()
        except TimeoutError:
            if may_end and at < 0:
                return  # a stream that is asked for what is younger than its last chunk waits for the next one
            raise
        at = _offset(message)
        batch.append(message.body)
        unconfirmed += 1
        if unconfirmed >= PREFETCH // 2:
            await message.ack(multiple=True)
            unconfirmed = 0
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _offset(message: AbstractIncomingMessage) -> int:
    found: Any = message.headers["x-stream-offset"]
    return int(found)
