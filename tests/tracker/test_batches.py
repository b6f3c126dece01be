"""How long a batch waits for more."""

import asyncio
from collections import deque

import pytest

from milepost_contracts.topology import Topology
from milepost_tracker import consumer as module
from milepost_tracker.consumer import BUSY, BUSY_FOR, Batching, RabbitConsumer, _Source


@pytest.fixture
async def consumer():
    return RabbitConsumer("amqp://nowhere/", Topology(), {}, Batching(size=100, prefetch=1_000))


@pytest.fixture
def source():
    return _Source(None, None, Topology().lifecycle, asyncio.Queue())


@pytest.fixture
def pauses(monkeypatch):
    """How often a batch has waited; a message comes meanwhile."""
    waited = []

    async def wait(seconds, source):
        waited.append(seconds)
        source.arrived.put_nowait("late")

    return waited, wait


async def collect(consumer, source, messages, pauses, monkeypatch):
    _, wait = pauses
    for message in messages:
        source.arrived.put_nowait(message)
    with monkeypatch.context() as patched:
        patched.setattr(module.asyncio, "sleep", lambda seconds: wait(seconds, source))
        return await consumer._collect(source)


async def test_a_message_that_comes_alone_is_taken_at_once(consumer, source, pauses, monkeypatch):
    """Whoever waits for it sees it a moment later."""
    assert ["one"] == await collect(consumer, source, ["one"], pauses, monkeypatch)
    assert [] == pauses[0]


async def test_where_many_come_they_wait_for_one_another(consumer, source, pauses, monkeypatch):
    """Each costs less in a larger batch; one that is full already waits for nobody."""
    monkeypatch.setattr(module, "BUSY_FOR", 60.0)
    at = asyncio.get_running_loop().time()
    source.taken.extend([at] * BUSY)
    assert ["one", "late"] == await collect(consumer, source, ["one"], pauses, monkeypatch)
    assert [module.LINGER] == pauses[0]
    assert 100 == len(await collect(consumer, source, range(150), pauses, monkeypatch))
    assert 1 == len(pauses[0])


def test_what_was_busy_a_while_ago_is_not_busy_now(source):
    """The first one after a pause waits for nobody."""
    source.taken.extend([10.0] * BUSY)
    assert source.is_busy(10.0 + BUSY_FOR / 2)
    assert not source.is_busy(10.0 + 2 * BUSY_FOR)
    assert deque([10.0] * BUSY) == source.taken
