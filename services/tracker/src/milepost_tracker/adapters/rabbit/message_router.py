"""Declares missing queues at RabbitMQ, and publishes their messages again."""

import asyncio
from collections.abc import Iterable

import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.back_off import BackOff
from milepost_contracts.http.webhooks import ASKED_HEADER, PUT_OFF_HEADER, TRIES_HEADER
from milepost_contracts.messages.broker_objects import Exchange
from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.former_bindings import former_work_bindings
from milepost_contracts.messages.topology import Topology
from milepost_rabbit.declare import bind, declare, unbind
from milepost_rabbit.depth import depths
from milepost_rabbit.errors import TopologyMismatch
from milepost_rabbit.publisher import RabbitPublisher
from milepost_tracker import metrics
from milepost_tracker.ports.message_router import Message, Stage

DECLARE_TIMEOUT = 60.0
"""Seconds; a declaration of many replicated queues takes several."""
MISMATCH_HINT = "It is used as it is. Set MILEPOST_DELIVERY_LIMIT as before; or empty and delete the queue."
HEADERS = (TRIES_HEADER, ASKED_HEADER, PUT_OFF_HEADER)
log = structlog.get_logger(__name__)


class RabbitMessageRouter:
    """Implements `ports.message_router.MessageRouter`."""

    def __init__(self, publisher: RabbitPublisher, topology: Topology) -> None:
        self._publisher = publisher
        self._topology = topology
        self._exchanges: dict[Stage, Exchange] = {
            "levels": topology.delay_exchange(LEVELS - 1),
            "entry": topology.entry,
            "work": topology.commands,
            "events": topology.internal,
        }

    async def declare(self, queues: Iterable[str]) -> None:
        names, back_off = sorted(set(queues)), BackOff()
        while True:
            await self._publisher.link.wait_up()
            try:
                async with asyncio.timeout(DECLARE_TIMEOUT):
                    if (connection := self._publisher.link.connection) is not None:
                        return await self._declare(connection, names)
            except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
                log.warning("topology_not_declared", error=str(error) or type(error).__name__)
            await asyncio.sleep(back_off.next())

    async def declare_soon(self, queues: Iterable[str]) -> None:
        if (connection := self._publisher.link.connection) is None:
            return
        try:
            async with asyncio.timeout(DECLARE_TIMEOUT):
                await self._declare_queues(connection, sorted(set(queues)))
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            log.warning("queues_not_declared", error=str(error) or type(error).__name__)

    async def _declare(self, connection: AbstractConnection, queues: list[str]) -> None:
        topology = self._topology
        shared = topology.shared_queues
        found = await depths(connection, shared)
        if gone := [queue.name for queue in shared if queue.name not in found]:
            log.error("queues_missing", queues=gone, hint="Somebody deleted them, or a policy lets queues expire.")
            metrics.missing_queues.inc(len(gone))
        await declare(connection, topology.exchanges, shared)
        await self._declare_queues(connection, queues)

    async def _declare_queues(self, connection: AbstractConnection, names: list[str]) -> None:
        for queue in self._topology.work_queues(names):
            try:
                await declare(connection, (), (queue,))
            except TopologyMismatch as error:
                log.warning("queue_has_other_arguments", queue=queue.name, error=str(error), hint=MISMATCH_HINT)
                await bind(connection, (queue,))
        await unbind(connection, former_work_bindings(self._topology, names))

    async def publish(self, message: Message, *, to: Stage) -> None:
        await self._publisher.publish_until_confirmed(
            self._exchanges[to],
            message.routing_key,
            message.body,
            correlation_id=message.subject,
            headers={name: message.headers[name] for name in HEADERS if name in message.headers},
        )
