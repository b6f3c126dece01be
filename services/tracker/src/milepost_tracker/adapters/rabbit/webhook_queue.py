"""Consumes webhooks, many at a time, and acknowledges each once it was handled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.http.webhooks import ASKED_HEADER, PUT_OFF_HEADER, TRIES_HEADER
from milepost_contracts.messages.topology import Topology
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_rabbit.declare import declare
from milepost_rabbit.link import Link
from milepost_rabbit.received import received
from milepost_tracker.core.webhooks import QueuedWebhook

PREFETCH = 100


class RabbitWebhookQueue:
    """Consumes the webhooks that are due, on a connection of its own."""

    def __init__(self, url: str, topology: Topology, deliver: Callable[[QueuedWebhook], Awaitable[None]]) -> None:
        self._topology = topology
        self._queue = topology.webhook_queue
        self._deliver = deliver
        self._tasks: set[asyncio.Task[None]] = set()
        self.link = Link(url, name="tracker webhooks", on_connect=self._open)

    async def _open(self, connection: AbstractConnection) -> None:
        await cancel_and_wait(self._tasks)  # their webhooks are redelivered
        await declare(connection, self._topology.exchanges, (self._queue,))
        channel = await connection.channel()
        await self.link.watch(connection, channel)
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(self._queue.name, ensure=False)
        await queue.consume(self._arrived)

    async def close(self) -> None:
        """Stop. What was not acknowledged goes back to the broker."""
        await cancel_and_wait(self._tasks)
        await self.link.close()

    async def _arrived(self, message: AbstractIncomingMessage) -> None:
        task = asyncio.create_task(self._handle(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        queued = QueuedWebhook(
            received=received(message),
            tries=_number(message.headers.get(TRIES_HEADER)),
            asked=ASKED_HEADER in message.headers,
            put_off=_number(message.headers.get(PUT_OFF_HEADER)),
        )
        await self._deliver(queued)
        with suppress(*CONNECTION_EXCEPTIONS):  # it is redelivered, and skipped as delivered already
            await message.ack()


def _number(header: object) -> int:
    """Return a number in a header, within limits: a publisher can set any header."""
    return int(header[:6]) if isinstance(header, str) and header.isdecimal() else 0
