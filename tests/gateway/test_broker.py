"""The adapter to RabbitMQ, without one."""

import asyncio

from samples import SUBMITTED

from milepost_contracts.events import JobSubmitted
from milepost_contracts.topology import Topology
from milepost_gateway.broker import CONFIRM_WITHIN, RabbitBroker


async def test_looking_for_a_queue_and_publishing_share_their_time(monkeypatch):
    """A client hears of an outage after two seconds, and not after twice that."""
    broker, given = RabbitBroker("amqp://nowhere/", Topology()), []

    async def look_slowly(needed):
        del needed
        await asyncio.sleep(0.2)

    async def publish(*_, within, **__):
        given.append(within)

    monkeypatch.setattr(broker, "_look_for", look_slowly)
    monkeypatch.setattr(broker._publisher, "publish", publish)
    await broker.submit(JobSubmitted(job=SUBMITTED))
    assert 0 < given[0] <= CONFIRM_WITHIN - 0.19
