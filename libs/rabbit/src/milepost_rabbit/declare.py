"""Declares the exchanges and queues of `milepost_contracts.messages.topology`."""

import re
from collections.abc import Iterable

import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue

from milepost_contracts.messages.broker_objects import Exchange, Queue
from milepost_contracts.messages.former_bindings import FormerBinding
from milepost_rabbit.errors import TopologyMismatch, TopologyMissing

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>\w+) '(?P<name>[^']+)' in vhost '(?P<vhost>[^']+)': "
    r"received (?P<expected>.+?) but current is (?P<actual>.+)"
)
"""What RabbitMQ answers. Values are as in `the value '5' of type 'long'`, or `none`."""
_VALUE = re.compile(r"the value '?(.*?)'?( of type .*)?$")


async def declare(connection: AbstractConnection, exchanges: Iterable[Exchange], queues: Iterable[Queue]) -> None:
    """Declare and bind exchanges and queues; idempotent. An exchange must come after those that it is bound to.

    Raises:
        TopologyMismatch: One of them exists with other arguments.
    """
    channel = await connection.channel()
    try:
        for exchange in exchanges:
            made = await channel.declare_exchange(
                exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments)
            )
            for binding in exchange.bindings:
                await made.bind(binding.exchange.name, binding.key)
        for queue in queues:
            declared = await channel.declare_queue(
                queue.name, durable=not queue.exclusive, exclusive=queue.exclusive, arguments=dict(queue.arguments)
            )
            for binding in queue.bindings:
                await declared.bind(binding.exchange.name, binding.key)
    except aiormq.exceptions.ChannelPreconditionFailed as error:
        raise TopologyMismatch(_difference(str(error))) from error
    finally:
        await channel.close()


def _difference(reply: str) -> str:
    """Return RabbitMQ's reply as a sentence that compares what was expected with what exists."""
    found = _INEQUIVALENT.search(reply)
    if found is None:
        return f"a queue or exchange exists with other arguments: {reply}"
    expected, actual = (_VALUE.sub(r"\1", found[which].strip("' ")) for which in ("expected", "actual"))
    return (
        f"the {found['kind']} {found['name']} in the vhost {found['vhost']} exists with other arguments: "
        f"{found['argument']} is {actual}, and {expected} is expected. "
        f"Change the settings to fit it, or delete the {found['kind']}, which loses what it holds"
    )


async def declare_own(channel: AbstractChannel, queue: Queue) -> AbstractQueue:
    """Declare and bind a queue that belongs to the channel's connection, under a name that the broker chooses."""
    declared = await channel.declare_queue(queue.name, exclusive=True, arguments=dict(queue.arguments))
    for binding in queue.bindings:
        await declared.bind(binding.exchange.name, binding.key)
    return declared


async def require(connection: AbstractConnection, exchanges: Iterable[Exchange]) -> None:
    """Return if these exchanges exist; nothing is declared.

    Raises:
        TopologyMissing: One of them does not exist.
    """
    channel = await connection.channel()
    try:
        for exchange in exchanges:
            try:
                await channel.get_exchange(exchange.name, ensure=True)
            except aiormq.exceptions.ChannelNotFoundEntity as error:
                raise TopologyMissing(
                    f"the exchange {exchange.name} does not exist: no tracker has declared it yet"
                ) from error
    finally:
        await channel.close()


async def unbind(connection: AbstractConnection, bindings: Iterable[FormerBinding]) -> None:
    """Remove bindings of an earlier version; those that do not exist count as removed."""
    channel = await connection.channel()
    try:
        wire = await channel.get_underlay_channel()
        for one in bindings:
            if one.to_queue:
                await wire.queue_unbind(one.to, one.exchange, one.key)
            else:
                await wire.exchange_unbind(destination=one.to, source=one.exchange, routing_key=one.key)
    finally:
        await channel.close()


async def bind(connection: AbstractConnection, queues: Iterable[Queue]) -> None:
    """Bind those of these queues that exist; nothing is declared."""
    channel = await connection.channel()
    try:
        for queue in queues:
            try:
                declared = await channel.declare_queue(queue.name, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity:
                channel = await connection.channel()  # the broker has closed the other one
                continue
            for binding in queue.bindings:
                await declared.bind(binding.exchange.name, binding.key)
    finally:
        await channel.close()


async def missing(connection: AbstractConnection, queues: Iterable[Queue]) -> str | None:
    """Return the name of the first queue that does not exist, or `None`; nothing is declared."""
    channel = await connection.channel()
    try:
        for queue in queues:
            try:
                await channel.declare_queue(queue.name, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity:
                return queue.name
    finally:
        await channel.close()
    return None
