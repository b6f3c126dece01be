"""RabbitMQ for the gateway: one confirmed publish for each job."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.http import webhooks
from milepost_contracts.messages.broker_objects import Exchange, Queue
from milepost_contracts.messages.delay_levels import first_level
from milepost_contracts.messages.job_events import AnyJobMessage, JobEvent, JobRequest, JobScheduled, encode_event
from milepost_contracts.messages.topology import Topology
from milepost_gateway.adapters.queue_checks import QueueChecks
from milepost_gateway.errors import BrokerUnavailable, NotAccepted, OutcomeUnknown
from milepost_gateway.ports.broker import Submitted
from milepost_rabbit import errors as rabbit
from milepost_rabbit.declare import missing
from milepost_rabbit.depth import Depth, depths
from milepost_rabbit.publisher import RabbitPublisher

CONFIRM_TIMEOUT = 2.0
ANSWER_TTL = 2.0
"""Seconds for which it is known whether the broker answers: strangers may ask, and each check opens a channel."""


class RabbitBroker:
    """Implements `ports.broker.Broker`. Declares nothing: the tracker and the processors own the topology."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._topology = topology
        self._accepting = lru_cache(maxsize=1_000)(topology.accepting)
        self._publisher = RabbitPublisher(url, name="gateway")
        self.link = self._publisher.link
        self._checks = QueueChecks(self._publisher)
        self._answering = asyncio.Lock()
        self._answered, self._asked_at = False, float("-inf")

    async def submit(self, command: Submitted) -> None:
        delay = command.delay if isinstance(command, JobScheduled) else timedelta(0)
        await self._publish(command, self._accepting(command.job.queue, first_level(delay)))

    async def publish_request(self, request: JobRequest) -> None:
        await self._publish(request, (self._topology.lifecycle, self._topology.log))

    async def publish_webhook(self, event: JobEvent) -> None:
        await self._publish(
            event,
            (self._topology.webhook_queue,),
            exchange=self._topology.webhooks,
            routing_key=webhooks.routing_key(event.job, after=timedelta(0)),
            headers={webhooks.ASKED_HEADER: "yes"},
        )

    async def _publish(
        self,
        message: AnyJobMessage,
        needed: tuple[Queue, ...],
        *,
        exchange: Exchange | None = None,
        routing_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = encode_event(message)
        begun = asyncio.get_running_loop().time()
        await self._checks.require(needed, within=CONFIRM_TIMEOUT)
        left = CONFIRM_TIMEOUT - (asyncio.get_running_loop().time() - begun)
        try:
            await self._publisher.publish(
                exchange or self._topology.jobs,
                routing_key or message.routing_key,
                body,
                correlation_id=message.subject,
                within=max(0.1, left),
                headers=headers,
            )
        except rabbit.NotAccepted as error:
            raise NotAccepted(str(error)) from error
        except rabbit.OutcomeUnknown as error:
            if isinstance(error, rabbit.Refused):
                self._checks.note_refusal(needed)
            raise OutcomeUnknown(message.subject, str(error)) from error

    async def answers(self) -> bool:
        connection = self.link.connection
        if connection is None:
            return False
        async with self._answering:
            at = asyncio.get_running_loop().time()
            if at - self._asked_at >= ANSWER_TTL:
                self._answered, self._asked_at = await self._ask(connection), at
            return self._answered

    async def _ask(self, connection: AbstractConnection) -> bool:
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                await connection.ready()
                return await missing(connection, (self._topology.lifecycle, self._topology.log)) is None
        except (*CONNECTION_EXCEPTIONS, TimeoutError):
            return False

    async def depths(self, queues: Sequence[str]) -> Mapping[str, Depth]:
        names = {self._topology.work_queue_name(queue): queue for queue in queues}
        connection = self.link.connection
        if connection is None:
            raise BrokerUnavailable
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                await connection.ready()
                found = await depths(connection, [self._topology.work(queue) for queue in queues])
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise BrokerUnavailable from error
        return {names[name]: depth for name, depth in found.items()}
