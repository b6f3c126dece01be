"""How full queues are, as the broker says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import aiormq.exceptions
from aio_pika.abc import AbstractConnection

from milepost_contracts.topology import Queue


@dataclass(frozen=True, kw_only=True)
class Depth:
    #: Messages that wait to be delivered.
    ready: int
    consumers: int


async def depths(connection: AbstractConnection, queues: Iterable[Queue]) -> Mapping[str, Depth]:
    """Return how full each of these queues is, by name, of those that exist."""
    found = {}
    for queue in queues:
        channel = await connection.channel()  # the broker closes it where there is no such queue
        try:
            told = (await channel.declare_queue(queue.name, passive=True)).declaration_result
            found[queue.name] = Depth(ready=told.message_count or 0, consumers=told.consumer_count or 0)
        except aiormq.exceptions.ChannelNotFoundEntity:
            continue
        finally:
            await channel.close()
    return found
