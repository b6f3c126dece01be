"""The log of lifecycle events: a stream, read from an explicit offset, on a plain connection.

(A robust connection would subscribe again with its first offset, and miss messages or read all of them again.)

A reader publishes a mark into the log and reads up to it: the replica on the node that it is connected to may lag or
have stopped, so the last message it delivers need not be the end of the log.
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

from milepost_contracts.messages.received import Received
from milepost_contracts.messages.topology import Topology
from milepost_rabbit.cancelling import raise_if_cancelled
from milepost_rabbit.received import received
from milepost_tracker.errors import EventLogUnavailable
from milepost_tracker.ports.event_log import LogPage

PREFETCH = 500
PAGE_SIZE, PAGE_BYTES = 20_000, 16 * 1024 * 1024
"""A page ends with the message that reaches either: messages may have up to 256 KiB."""
MARK_TIMEOUT = 10.0
"""Seconds within which the broker confirms the mark."""
SILENCE_LIMIT = 5.0
"""Seconds without a message, before the mark, after which the replica counts as stopped."""
MARK = b"milepost log mark "


class RabbitEventLog:
    """Implements `ports.event_log.EventLog`."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._url = url
        self._queue = topology.log.name
        self._marks = topology.republished.name

    async def read(self, since: datetime | int | None) -> AsyncIterator[LogPage]:
        try:
            async with (
                await aio_pika.connect(self._url, timeout=5) as connection,
                self._consume(connection, "first" if since is None else since) as arrived,
            ):
                mark = await self._mark(connection)
                async for page in _until(arrived, mark, since if isinstance(since, int) else 0):
                    yield page
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise EventLogUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError as error:
            raise_if_cancelled(error)
            raise EventLogUnavailable("the broker does not answer any more") from error

    async def _mark(self, connection: AbstractConnection) -> bytes:
        """Publish a mark at the end of the log; a majority of the replicas has it, and all messages before it."""
        mark = MARK + token_hex(16).encode()
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        try:
            exchange = await channel.get_exchange(self._marks, ensure=False)
            message = aio_pika.Message(mark, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, "", mandatory=True, timeout=MARK_TIMEOUT)
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


async def _until(arrived: asyncio.Queue[AbstractIncomingMessage], mark: bytes, begin: int) -> AsyncIterator[LogPage]:
    batch: list[Received] = []
    size, unconfirmed = 0, 0
    while True:
        async with asyncio.timeout(SILENCE_LIMIT):
            message = await arrived.get()
        end = int(cast("int", message.headers["x-stream-offset"])) + 1
        if end <= begin:
            raise EventLogUnavailable("the log is a new one since it was read last")
        if message.body == mark:
            break
        if not message.body.startswith(MARK):
            batch.append(received(message))
            size += len(message.body)
        unconfirmed += 1
        if unconfirmed >= PREFETCH // 2:
            await message.ack(multiple=True)
            unconfirmed = 0
        if len(batch) >= PAGE_SIZE or size >= PAGE_BYTES:
            yield LogPage(messages=batch, end=end)
            batch, size = [], 0
    yield LogPage(messages=batch, end=end)
