"""RabbitMQ as the gateway uses it: one confirmed publish for each job, and a look at whether its queues are there."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts import webhooks
from milepost_contracts.events import AnyJobMessage, JobEvent, JobScheduled, Wish, encode_event
from milepost_contracts.topology import Exchange, Queue, Topology
from milepost_gateway.errors import BrokerUnavailable, NotAccepted, OutcomeUnknown
from milepost_gateway.ports import Submitted
from milepost_rabbit import errors as rabbit
from milepost_rabbit.declare import missing
from milepost_rabbit.depth import Depth, depths
from milepost_rabbit.publisher import RabbitPublisher

CONFIRM_WITHIN = 2.0
LOOK_EVERY = 1.0
"""Seconds for which a queue that was there counts as there.

The broker returns a message only when no queue at all takes it, and the tracker's always does: that the work queue is
gone has to be looked for.
"""


class RabbitBroker:
    """See `ports.Broker`. Declares nothing: the tracker and the processors own the topology."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._topology = topology
        self._publisher = RabbitPublisher(url, name="gateway", exchanges=(topology.jobs, topology.webhooks))
        self.link = self._publisher.link
        self._seen: dict[str, float] = {}

    async def submit(self, command: Submitted) -> None:
        delay = command.delay if isinstance(command, JobScheduled) else timedelta(0)
        await self._publish(command, self._topology.accepting(command.job.queue, delay))

    async def say(self, wish: Wish) -> None:
        await self._publish(wish, (self._topology.lifecycle, self._topology.log))

    async def tell_again(self, event: JobEvent) -> None:
        await self._publish(
            event,
            (self._topology.webhook_queue,),
            exchange=self._topology.webhooks,
            routing_key=webhooks.routing_key(event.job, after=timedelta(0)),
            headers={webhooks.ASKED: "yes"},
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
        try:
            async with asyncio.timeout(CONFIRM_WITHIN) as deadline:
                await self._look_for(needed)
        except TimeoutError as error:
            if (connection := self.link.connection) is not None:
                await self._publisher.doubt(connection)
            raise NotAccepted("the broker does not answer") from error
        when = deadline.when()
        left = max(0.1, when - asyncio.get_running_loop().time()) if when else CONFIRM_WITHIN
        try:
            await self._publisher.publish(
                exchange or self._topology.jobs,
                routing_key or message.routing_key,
                body,
                correlation_id=message.subject,
                within=left,
                headers=headers,
            )
        except rabbit.NotAccepted as error:
            raise NotAccepted(str(error)) from error
        except rabbit.OutcomeUnknown as error:
            raise OutcomeUnknown(message.subject, str(error)) from error

    async def answers(self) -> bool:
        connection = self.link.connection
        if connection is None:
            return False
        try:
            async with asyncio.timeout(CONFIRM_WITHIN):
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
            async with asyncio.timeout(CONFIRM_WITHIN):
                await connection.ready()
                found = await depths(connection, [self._topology.work(queue) for queue in queues])
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise BrokerUnavailable from error
        return {names[name]: depth for name, depth in found.items()}

    async def _look_for(self, queues: tuple[Queue, ...]) -> None:
        loop = asyncio.get_running_loop()
        unseen = [queue for queue in queues if loop.time() - self._seen.get(queue.name, float("-inf")) >= LOOK_EVERY]
        connection = self.link.connection
        if not unseen or connection is None:
            return  # the publisher waits for a connection, and says so when it does not come
        try:
            gone = await missing(connection, unseen)
        except CONNECTION_EXCEPTIONS as error:
            raise NotAccepted(f"the connection to the broker was lost: {error}") from error
        if gone is not None:
            raise NotAccepted(f"the queue {gone} does not exist at the broker")
        self._seen.update(dict.fromkeys((queue.name for queue in unseen), loop.time()))
