"""The RabbitMQ adapter, without a broker."""

import asyncio
from types import SimpleNamespace

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


async def test_readiness_is_checked_once_however_many_ask(monkeypatch):
    """Strangers may ask for it, and each check opens a channel at the broker."""
    broker, checks = RabbitBroker("amqp://nowhere/", Topology()), []

    async def check(connection):
        checks.append(connection)
        await asyncio.sleep(0)
        return True

    monkeypatch.setattr(broker, "_ask", check)
    assert not await broker.answers()
    broker.link = SimpleNamespace(connection=object())
    assert [True] * 100 == await asyncio.gather(*(broker.answers() for _ in range(100)))
    assert 1 == len(checks)
    broker.link.connection = None
    assert not await broker.answers(), "a lost connection is known at once"
