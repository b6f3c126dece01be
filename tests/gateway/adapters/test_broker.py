"""The RabbitMQ adapter, without a broker."""

import asyncio

from samples import SUBMITTED

from milepost_contracts.messages.job_events import JobSubmitted
from milepost_contracts.messages.topology import Topology
from milepost_gateway.adapters.broker import CONFIRM_TIMEOUT, RabbitBroker


async def test_checking_a_queue_and_publishing_share_one_timeout(monkeypatch):
    """A client learns of an outage after two seconds, not after twice that."""
    broker, timeouts = RabbitBroker("amqp://nowhere/", Topology()), []

    async def check_slowly(needed, *, within):
        del needed, within
        await asyncio.sleep(0.2)

    async def publish(*_, within, **__):
        timeouts.append(within)

    monkeypatch.setattr(broker._checks, "require", check_slowly)
    monkeypatch.setattr(broker._publisher, "publish", publish)
    await broker.submit(JobSubmitted(job=SUBMITTED))
    assert 0 < timeouts[0] <= CONFIRM_TIMEOUT - 0.19
