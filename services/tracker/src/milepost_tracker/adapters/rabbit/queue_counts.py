"""Counts the messages in RabbitMQ's queues."""

import asyncio
from collections.abc import Iterable, Sequence

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.messages.broker_objects import Queue
from milepost_contracts.messages.topology import Topology
from milepost_rabbit.cancelling import raise_if_cancelled
from milepost_rabbit.depth import depths
from milepost_tracker.errors import EventLogUnavailable
from milepost_tracker.ports.queue_counts import QueueDepths


class RabbitQueueCounts:
    """Implements `ports.queue_counts.QueueCounts`, over a connection for each call."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._url = url
        self._topology = topology

    async def depths(self, queues: Sequence[str]) -> QueueDepths:
        try:
            async with await aio_pika.connect(self._url, timeout=5) as connection:
                return QueueDepths(
                    ready=await _ready(connection, self._topology.work_queues(queues)),
                    delayed=await _ready(connection, (self._topology.unrouted_queue, *self._topology.delay_queues)),
                    dead_lettered=await _ready(connection, (self._topology.dead_letter_queue,)),
                )
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise EventLogUnavailable(str(error) or type(error).__name__) from error
        except asyncio.CancelledError as error:
            raise_if_cancelled(error)
            raise EventLogUnavailable("the broker does not answer any more") from error


async def _ready(connection: AbstractConnection, queues: Iterable[Queue]) -> int:
    return sum(depth.ready for depth in (await depths(connection, queues)).values())
