"""Questions to the broker from outside the services: the proofs of its faults."""

import asyncio
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError

from fault_suite.cluster import Cluster

ANSWER_TIMEOUT = 1.0
"""Seconds after which a server counts as silent."""


def broker_answers(cluster: Cluster) -> bool:
    """Return whether the broker accepts a connection, with the password that the services have."""

    async def ask() -> bool:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                connection = await aio_pika.connect(cluster.rabbitmq_url_of("gateway"))
        except (*CONNECTION_EXCEPTIONS, TimeoutError):
            return False
        await connection.close()
        return True

    return asyncio.run(ask())


def blocked_connections(cluster: Cluster) -> int:
    """Return how many connections the broker does not read from, because of an alarm."""
    return sum("block" in state for state in cluster.rabbitmqctl("list_connections", "state").splitlines())


def depth(cluster: Cluster, queue: str) -> int:
    """Return the number of ready messages in a queue."""
    return _declared(cluster, queue)[0]


def consumers(cluster: Cluster, queue: str) -> int:
    """Return the number of consumers of a queue."""
    return _declared(cluster, queue)[1]


def exists(cluster: Cluster, queue: str) -> bool:
    """Return whether there is such a queue."""
    with suppress(aio_pika.exceptions.ChannelNotFoundEntity):
        _declared(cluster, queue)
        return True
    return False


def _declared(cluster: Cluster, queue: str) -> tuple[int, int]:
    async def ask(connection: AbstractConnection) -> tuple[int, int]:
        result = (await (await connection.channel()).declare_queue(queue, passive=True)).declaration_result
        return result.message_count or 0, result.consumer_count or 0

    found: tuple[int, int] = cluster.at_broker(ask)
    return found


def refusals(cluster: Cluster, queue: str, *, tries: int = 3) -> int:
    """Publish to a queue directly; return how many messages it refused. It keeps the others."""

    async def publish(connection: AbstractConnection) -> int:
        channel = await connection.channel()
        refused = 0
        for _ in range(tries):
            try:
                await channel.default_exchange.publish(aio_pika.Message(b"probe"), queue, timeout=5)
            except DeliveryError:
                refused += 1
        return refused

    refused: int = cluster.at_broker(publish)
    return refused


def bindings_of(cluster: Cluster, queue: str) -> int:
    """Return the number of bindings of a queue, without the one of the default exchange."""
    lines = cluster.rabbitmqctl("list_bindings", "source_name", "destination_name").splitlines()
    return sum(line.split("\t")[1:] == [queue] and not line.startswith("\t") for line in lines)
