"""Reads queues of the broker in batches, and acknowledges a batch only after it was projected."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.messages.broker_objects import Queue
from milepost_contracts.messages.former_bindings import former_bindings
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.topology import Topology
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_rabbit.declare import declare, unbind
from milepost_rabbit.errors import TopologyMismatch
from milepost_rabbit.link import Link
from milepost_rabbit.received import received
from milepost_tracker import metrics
from milepost_tracker.core.projector import Poison
from milepost_tracker.ports.event_publisher import MAX_REASON, REASON_HEADER

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _RabbitDelivery:
    """Implements `ports.consumer.Delivery`."""

    message: AbstractIncomingMessage
    queue: str

    @property
    def received(self) -> Received:
        return received(self.message)

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.message.headers


BUSY_MESSAGES, BUSY_SECONDS = 25, 0.1
"""A queue is busy if this many messages arrived within this many seconds: its batches then wait for more."""
LINGER = 0.02
"""Seconds for which a batch of a busy queue waits: a batch of one message costs several times as much per message."""

Project = Callable[[Sequence[_RabbitDelivery]], Awaitable[list[Poison[_RabbitDelivery]]]]


@dataclass(frozen=True)
class _Source:
    """A queue that is being consumed."""

    connection: AbstractConnection
    channel: AbstractChannel
    queue: Queue
    arrived: asyncio.Queue[AbstractIncomingMessage]
    #: When the latest messages were taken, on the loop's clock.
    taken: deque[float] = field(default_factory=lambda: deque(maxlen=BUSY_MESSAGES))

    def is_busy(self, at: float) -> bool:
        """Whether many messages have arrived just now."""
        return len(self.taken) == BUSY_MESSAGES and at - self.taken[0] < BUSY_SECONDS


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The size of batches, and how many messages are prefetched."""

    size: int
    prefetch: int


class RabbitConsumer:
    """Consumes some queues over one connection, each on a channel and in batches of its own.

    Declares the topology that the tracker owns: the exchanges, its own queues, the log and the dead-letter queue.
    """

    def __init__(
        self,
        url: str,
        topology: Topology,
        projects: dict[Queue, Project],
        batching: Batching,
        *,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._topology = topology
        self._on_open = on_open
        self._projects = projects
        self._batching = batching
        self._readers: list[asyncio.Task[None]] = []
        #: Set to the error that ended a reader: a tracker that no longer reads must not look healthy.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.link = Link(url, name="tracker", on_connect=self._open)

    async def _open(self, connection: AbstractConnection) -> None:
        await self._cancel_readers()
        try:
            await declare(connection, self._topology.exchanges, self._topology.shared_queues)
        except TopologyMismatch as error:
            self._fail(error)
            raise
        await unbind(connection, former_bindings(self._topology))
        for queue, project in self._projects.items():
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await self.link.watch(connection, channel)
            await channel.set_qos(prefetch_count=self._batching.prefetch)
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            consumed = await channel.get_queue(queue.name, ensure=False)
            await consumed.consume(arrived.put)
            read = self._read(_Source(connection, channel, queue, arrived), project)
            reader = asyncio.create_task(read, name=f"read {queue.name}")
            reader.add_done_callback(self._ended)
            self._readers.append(reader)
        self._on_open()

    async def close(self) -> None:
        """Stop reading. What was not acknowledged goes back to the broker."""
        await self._cancel_readers()
        await self.link.close()

    async def _cancel_readers(self) -> None:
        await cancel_and_wait(self._readers)
        self._readers = []

    def _ended(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and (error := reader.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _read(self, source: _Source, project: Project) -> None:
        while True:
            batch = await self._collect(source)
            poison = await project([_RabbitDelivery(message, source.queue.name) for message in batch])
            try:
                await self._acknowledge(source, batch, poison)
            except CONNECTION_EXCEPTIONS as error:
                # Going on would acknowledge the rest of this batch together with the next one.
                log.warning("batch_not_acknowledged", queue=source.queue.name, error=str(error))
                self.link.drop(source.connection)
                return

    async def _acknowledge(
        self,
        source: _Source,
        batch: Sequence[AbstractIncomingMessage],
        poison: Sequence[Poison[_RabbitDelivery]],
    ) -> None:
        for one in poison:
            await self._dead_letter(source, one)
        rejected = {id(one.delivery.message) for one in poison}
        good = [message for message in batch if id(message) not in rejected]
        if good:
            await good[-1].ack(multiple=True)

    async def _collect(self, source: _Source) -> list[AbstractIncomingMessage]:
        """Return the messages that have arrived: at once if the queue is quiet, after a short while if it is busy."""
        loop = asyncio.get_running_loop()
        batch = [await source.arrived.get()]
        if source.is_busy(loop.time()) and source.arrived.qsize() < self._batching.size - 1:
            await asyncio.sleep(LINGER)
        while len(batch) < self._batching.size and not source.arrived.empty():
            batch.append(source.arrived.get_nowait())
        source.taken.extend([loop.time()] * len(batch))
        return batch

    async def _dead_letter(self, source: _Source, poison: Poison[_RabbitDelivery]) -> None:
        """Move one message to the dead-letter queue: the broker does so where the queue dead-letters."""
        message, queue = poison.delivery.message, source.queue
        metrics.dead_lettered_messages.labels(queue=queue.name).inc()
        log.warning("message_dead_lettered", queue=queue.name, reason=poison.reason, message_id=message.message_id)
        if queue.dead_letters:
            await message.reject(requeue=False)
            return
        exchange = await source.channel.get_exchange(self._topology.dead_letters.name, ensure=False)
        copy = aio_pika.Message(
            message.body,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            # Without a user_id: nobody believes it, whatever it says. It is kept for this reason.
            headers={"x-first-queue": queue.name, REASON_HEADER: poison.reason[:MAX_REASON]},
        )
        await exchange.publish(copy, message.routing_key or "")
        await message.ack()
