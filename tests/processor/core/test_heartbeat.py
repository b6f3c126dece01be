"""Announcements and heartbeats: they name what is consumed."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from odd_handlers import REGISTRY

from milepost_contracts.messages.worker_events import ProcessorAnnounced, ProcessorHeartbeat, RunningJob
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.heartbeat import HeartbeatSender

AT = datetime(2026, 1, 1, tzinfo=UTC)
JOB = RunningJob(id="x", type="noop", attempt=1, started_at=AT)


class Processor:
    """A processor whose state the test sets."""

    def __init__(self):
        (first, second), *_ = [list(REGISTRY.definitions.values())[:2]]
        self.definitions = {"x": replace(first, type="x", queue="a"), "y": replace(second, type="y", queue="b")}
        self.consumed = frozenset({"a", "b"})
        self.running = ()
        self.sent = []

    async def announce(self, message):
        self.sent.append(message)
        return True

    async def run_once(self):
        """Run until it has sent what it has to send at first."""
        sender = HeartbeatSender(
            Handlers(self.definitions),
            instance="here",
            threads=1,
            started_at=AT,
            running=lambda: self.running,
            held=lambda: 0,
            queue_wait=dict,
            consumed=lambda: self.consumed,
        )
        task = asyncio.create_task(sender.run(self.announce))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return sender


def replace(definition, **changes):
    return type(definition)(**vars(definition) | changes)


@pytest.fixture
def processor():
    return Processor()


async def test_a_processor_announces_its_types_before_its_first_heartbeat(processor):
    """With a version for each, and when it started: that orders the versions."""
    await processor.run_once()
    announced, heartbeat = processor.sent
    assert isinstance(announced, ProcessorAnnounced)
    assert isinstance(heartbeat, ProcessorHeartbeat)
    assert ["x", "y"] == [one.type for one in announced.announcement.types]
    assert all(one.version for one in announced.announcement.types)
    assert AT == announced.announcement.started_at
    assert (("x", "y"), ("a", "b")) == (heartbeat.heartbeat.types, heartbeat.heartbeat.queues)


async def test_a_queue_that_is_not_consumed_is_not_announced(processor):
    """Its jobs wait, and their documents must say so."""
    processor.consumed = frozenset({"b"})
    await processor.run_once()
    announced, heartbeat = processor.sent
    assert ["y"] == [one.type for one in announced.announcement.types]
    assert (("y",), ("b",)) == (heartbeat.heartbeat.types, heartbeat.heartbeat.queues)


async def test_a_processor_knows_which_queues_it_has_not_announced(processor):
    """It is ready only once there is none: a client may submit a job of any of its types then."""
    processor.consumed = frozenset({"b"})
    sender = await processor.run_once()
    assert ["a"] == sender.unannounced
    processor.consumed = frozenset({"a", "b"})
    assert [] == (await processor.run_once()).unannounced


async def test_a_processor_that_consumes_nothing_does_not_look_alive(processor):
    """It may be refused by the broker for good."""
    processor.consumed = frozenset()
    await processor.run_once()
    assert [] == processor.sent


async def test_a_processor_that_lost_its_consumers_still_reports_the_jobs_that_it_runs(processor):
    """They are not lost."""
    processor.consumed, processor.running = frozenset(), (JOB,)
    await processor.run_once()
    (heartbeat,) = processor.sent
    assert ((), (JOB,)) == (heartbeat.heartbeat.queues, heartbeat.heartbeat.running)
