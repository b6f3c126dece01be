"""RabbitMQ as the gateway uses it: one confirmed publish for each job, and a look at whether its queues are there."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts import webhooks
from milepost_contracts.delay import first_level
from milepost_contracts.events import AnyJobMessage, JobEvent, JobScheduled, Wish, encode_event
from milepost_contracts.topology import Exchange, Queue, Topology
from milepost_gateway.errors import BrokerUnavailable, NotAccepted, OutcomeUnknown
from milepost_gateway.ports import Submitted
from milepost_rabbit import errors as rabbit
from milepost_rabbit.declare import missing
from milepost_rabbit.depth import Depth, depths
from milepost_rabbit.publisher import RabbitPublisher

CONFIRM_WITHIN = 2.0
LOOK_AGAIN, LOOK_EVERY = 0.5, 1.0
"""Seconds after which it is looked again, beside the submissions, whether a queue is there; and for which it counts so.

The broker returns a message only when no queue at all takes it, and the tracker's always does: that the work queue is
gone has to be looked for.
"""


class RabbitBroker:
    """See `ports.Broker`. Declares nothing: the tracker and the processors own the topology."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._topology = topology
        self._accepting = lru_cache(maxsize=1_000)(topology.accepting)
        self._publisher = RabbitPublisher(url, name="gateway")
        self.link = self._publisher.link
        self._seen: dict[str, float] = {}
        self._looking: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def submit(self, command: Submitted) -> None:
        delay = command.delay if isinstance(command, JobScheduled) else timedelta(0)
        await self._publish(command, self._accepting(command.job.queue, first_level(delay)))

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
        begun = asyncio.get_running_loop().time()
        await self._look_for(needed)
        left = CONFIRM_WITHIN - (asyncio.get_running_loop().time() - begun)
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
        at = asyncio.get_running_loop().time()
        names = tuple(queue.name for queue in queues)
        oldest = min(self._seen.get(name, float("-inf")) for name in names)
        if at - oldest < LOOK_AGAIN:
            return
        looking = self._looking.get(names)
        if looking is None:
            looking = self._looking[names] = asyncio.create_task(self._look(queues))
            looking.add_done_callback(lambda task: self._looked(names, task))
        if at - oldest >= LOOK_EVERY:
            await asyncio.shield(looking)

    def _looked(self, names: tuple[str, ...], task: asyncio.Task[None]) -> None:
        del self._looking[names]
        if not task.cancelled():
            task.exception()  # whoever waited has it, and who comes next looks again

    async def _look(self, queues: tuple[Queue, ...]) -> None:
        """Take note that these queues are there.

        Raises:
            NotAccepted: One is not, or nobody can say.
        """
        connection = self.link.connection
        if connection is None:
            return  # the publisher waits for a connection, and says so when it does not come
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(CONFIRM_WITHIN):
                gone = await missing(connection, queues)
        except TimeoutError as error:
            await self._publisher.doubt(connection)
            raise NotAccepted("the broker does not answer") from error
        except CONNECTION_EXCEPTIONS as error:
            raise NotAccepted(f"the connection to the broker was lost: {error}") from error
        if gone is not None:
            raise NotAccepted(f"the queue {gone} does not exist at the broker")
        self._seen.update(dict.fromkeys((queue.name for queue in queues), begun))
