"""How the consumer collects deliveries into batches."""

import asyncio
from collections import deque

import pytest

from milepost_contracts.messages.topology import Topology
from milepost_tracker.adapters.rabbit import consumer as module
from milepost_tracker.adapters.rabbit.consumer import BUSY_MESSAGES, BUSY_SECONDS, Batching, RabbitConsumer, _Source


@pytest.fixture
async def consumer():
    return RabbitConsumer("amqp://nowhere/", Topology(), {}, Batching(size=100, prefetch=1_000))


@pytest.fixture
def source():
    return _Source(None, None, Topology().lifecycle, asyncio.Queue())


@pytest.fixture
def pauses(monkeypatch):
    """Return the pauses that a batch waited for, and the fake sleep, during which one more message arrives."""
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


async def test_a_single_message_is_processed_without_a_pause(consumer, source, pauses, monkeypatch):
    """Under low load, a batch does not wait for more messages."""
    assert ["one"] == await collect(consumer, source, ["one"], pauses, monkeypatch)
    assert [] == pauses[0]


async def test_under_load_a_batch_waits_for_more_messages(consumer, source, pauses, monkeypatch):
    """A larger batch costs less per message; a full batch does not wait."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 60.0)
    at = asyncio.get_running_loop().time()
    source.taken.extend([at] * BUSY_MESSAGES)
    assert ["one", "late"] == await collect(consumer, source, ["one"], pauses, monkeypatch)
    assert [module.LINGER] == pauses[0]
    assert 100 == len(await collect(consumer, source, range(150), pauses, monkeypatch))
    assert 1 == len(pauses[0])


def test_a_queue_is_no_longer_busy_after_a_pause(source):
    """The first message after a pause is processed without waiting."""
    source.taken.extend([10.0] * BUSY_MESSAGES)
    assert source.is_busy(10.0 + BUSY_SECONDS / 2)
    assert not source.is_busy(10.0 + 2 * BUSY_SECONDS)
    assert deque([10.0] * BUSY_MESSAGES) == source.taken
