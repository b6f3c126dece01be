"""What the tracker itself publishes: verdicts, and what nobody could read."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from milepost_contracts.events import JobEvent, encode_event
from milepost_contracts.topology import Exchange, Topology
from milepost_rabbit.errors import RabbitError
from milepost_rabbit.publisher import RabbitPublisher

log = structlog.get_logger(__name__)

CONFIRM_WITHIN = 5.0
BACK_OFF = (0.1, 5.0)


class RabbitOutbox:
    """See `ports.Outbox`."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._topology = topology
        self._publisher = RabbitPublisher(
            url, name="tracker verdicts", exchanges=(topology.jobs, topology.poison, topology.retold)
        )
        self.link = self._publisher.link

    async def deliver(self, event: JobEvent) -> None:
        await self._say(event, self._topology.jobs, event.routing_key)

    async def retell(self, event: JobEvent) -> None:
        await self._say(event, self._topology.retold, "")

    async def _say(self, event: JobEvent, exchange: Exchange, routing_key: str) -> None:
        body = encode_event(event)
        await _until_confirmed(
            lambda: self._publisher.publish(
                exchange, routing_key, body, correlation_id=event.job.id, within=CONFIRM_WITHIN
            )
        )

    async def keep_poison(self, body: bytes, *, queue: str, reason: str) -> None:
        headers = {"x-first-queue": queue, "x-reason": reason[:500]}
        await _until_confirmed(
            lambda: self._publisher.publish(
                self._topology.poison, "", body, correlation_id="poison", within=CONFIRM_WITHIN, headers=headers
            )
        )


async def _until_confirmed(publish: Callable[[], Awaitable[None]]) -> None:
    pause, longest = BACK_OFF
    while True:
        try:
            await publish()
        except RabbitError as error:
            log.warning("verdict_unconfirmed", error=str(error), retry_in=round(pause, 1))
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(longest, pause * 2)
        else:
            return
