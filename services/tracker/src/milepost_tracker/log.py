"""The log of lifecycle events: a stream, read from an explicit offset, on a plain connection.

(A robust one would subscribe again with its first offset: it would miss what came meanwhile, or read all anew.)

Where the log ends is told by a mark that every reader puts there, once it reads: a stream is read from the replica of
the node that one is connected to, which may lag, or have stopped, and would show an end that is none.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from secrets import token_hex
from typing import cast

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.topology import Topology
from milepost_rabbit.cancelling import raise_if_ours
from milepost_tracker.errors import LogUnavailable
from milepost_tracker.ports import Page

PREFETCH = 2_000
BATCH = 20_000
MARKED_WITHIN = 10.0
"""Seconds within which the broker confirms the mark."""
SILENT = 5.0
"""Seconds without a message after which a log whose mark has not come is unavailable: its replica has stopped."""
MARK = b"milepost log mark "


class StreamLog:
    """See `ports.Log`."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._url = url
        self._queue = topology.log.name
        self._marks = topology.retold.name

    async def read(self, since: datetime | int | None) -> AsyncIterator[Page]:
        try:
            async with (
                await aio_pika.connect(self._url, timeout=5) as connection,
                self._consume(connection, "first" if since is None else since) as arrived,
            ):
                mark = await self._mark(connection)
                async for page in _until(arrived, mark, since if isinstance(since, int) else 0):
                    yield page
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError as error:
            raise_if_ours(error)
            raise LogUnavailable("the broker does not answer any more") from error

    async def _mark(self, connection: AbstractConnection) -> bytes:
        """Put a mark where the log ends now; a majority of its replicas has it, and all that was said before."""
        mark = MARK + token_hex(16).encode()
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        try:
            exchange = await channel.get_exchange(self._marks, ensure=False)
            message = aio_pika.Message(mark, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, "", mandatory=True, timeout=MARKED_WITHIN)
        finally:
            await channel.close()
        return mark

    @asynccontextmanager
    async def _consume(
        self, connection: AbstractConnection, offset: str | int | datetime
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


async def _until(arrived: asyncio.Queue[AbstractIncomingMessage], mark: bytes, begin: int) -> AsyncIterator[Page]:
    batch: list[bytes] = []
    unconfirmed = 0
    while True:
        async with asyncio.timeout(SILENT):
            message = await arrived.get()
        end = int(cast("int", message.headers["x-stream-offset"])) + 1
        if end <= begin:
            raise LogUnavailable("the log has begun anew since it was read last")
        if message.body == mark:
            break
        if not message.body.startswith(MARK):
            batch.append(message.body)
        unconfirmed += 1
        if unconfirmed >= PREFETCH // 2:
            await message.ack(multiple=True)
            unconfirmed = 0
        if len(batch) >= BATCH:
            yield Page(bodies=batch, end=end)
            batch = []
    yield Page(bodies=batch, end=end)
