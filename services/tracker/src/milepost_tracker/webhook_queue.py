"""Takes webhooks from the broker, many at a time, and acknowledges each when it is settled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.topology import Topology
from milepost_contracts.webhooks import ASKED, PUT_OFF, TRIES
from milepost_rabbit.cancelling import end
from milepost_rabbit.declare import declare
from milepost_rabbit.link import Link
from milepost_tracker.webhooks import Sent

AT_ONCE = 100


class RabbitWebhookQueue:
    """Consumes the webhooks whose time has come, on a connection of its own."""

    def __init__(self, url: str, topology: Topology, deliver: Callable[[Sent], Awaitable[None]]) -> None:
        self._topology = topology
        self._queue = topology.webhook_queue
        self._deliver = deliver
        self._tasks: set[asyncio.Task[None]] = set()
        self.link = Link(url, name="tracker webhooks", on_connect=self._open)

    async def _open(self, connection: AbstractConnection) -> None:
        await end(self._tasks)  # what they had comes again
        await declare(connection, self._topology.exchanges, (self._queue,))
        channel = await connection.channel()
        await self.link.watch(connection, channel)
        await channel.set_qos(prefetch_count=AT_ONCE)
        queue = await channel.get_queue(self._queue.name, ensure=False)
        await queue.consume(self._arrived)

    async def close(self) -> None:
        """Stop. What was not acknowledged goes back to the broker."""
        await end(self._tasks)
        await self.link.close()

    async def _arrived(self, message: AbstractIncomingMessage) -> None:
        task = asyncio.create_task(self._settle(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, message: AbstractIncomingMessage) -> None:
        sent = Sent(
            body=message.body,
            tries=_number(message.headers.get(TRIES)),
            asked=ASKED in message.headers,
            put_off=_number(message.headers.get(PUT_OFF)),
        )
        await self._deliver(sent)
        with suppress(*CONNECTION_EXCEPTIONS):  # it comes again, and is found to have been sent
            await message.ack()


def _number(header: object) -> int:
    return int(header) if isinstance(header, str) and header.isdecimal() else 0
