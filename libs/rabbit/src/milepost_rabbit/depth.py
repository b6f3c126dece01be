"""Reads queue depths from the broker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import aiormq.exceptions
from aio_pika.abc import AbstractConnection

from milepost_contracts.messages.broker_objects import Queue


@dataclass(frozen=True, kw_only=True)
class Depth:
    #: Messages ready for delivery.
    ready: int
    consumers: int


async def depths(connection: AbstractConnection, queues: Iterable[Queue]) -> Mapping[str, Depth]:
    """Return the depths of those queues that exist, by name."""
    found = {}
    channel = await connection.channel()
    try:
        for queue in queues:
            try:
                counts = (await channel.declare_queue(queue.name, passive=True)).declaration_result
                found[queue.name] = Depth(ready=counts.message_count or 0, consumers=counts.consumer_count or 0)
            except aiormq.exceptions.ChannelNotFoundEntity:
                channel = await connection.channel()  # the broker has closed the other one
    finally:
        await channel.close()
    return found
