"""A processor declares nothing: it waits for what trackers declare, says so, and asks for its queues."""

import asyncio
from pathlib import Path

import httpx
import pytest
from trusted import ONE_USER_SETTINGS
from waiting import wait_until, wait_until_async

from milepost_contracts.messages.worker_events import ProcessorAnnounced, decode_worker_event
from milepost_rabbit.declare import declare
from milepost_stack import processes, services

SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture
def processor(namespace, rabbitmq_url, redis_url, tmp_path):
    """A processor in a namespace without a tracker; killed after the test if it still runs."""
    settings = {
        "PYTHONPATH": str(SUPPORT),
        "MILEPOST_HANDLERS": "hostile_jobs",
        "MILEPOST_RABBITMQ_URL": rabbitmq_url,
        "MILEPOST_REDIS_URL": redis_url,
        "MILEPOST_NAMESPACE": namespace,
        **ONE_USER_SETTINGS,
        "MILEPOST_BLOBS_URL": tmp_path.as_uri(),
        "MILEPOST_CONSUMER_TIMEOUT": "3600",
    }
    state = services.background("processor", 1, tmp_path, settings)
    child = processes.start(state)
    yield state
    if child.poll() is None:
        child.kill()
    child.wait()


async def wait_until_it_says(processor, text):
    """Wait until `/readyz` has this text."""

    def says():
        try:
            return text in httpx.get(processor.ready_url).text
        except httpx.TransportError:
            return False

    await asyncio.to_thread(wait_until, says, within=60, what=f"/readyz says {text!r}")


async def test_a_processor_waits_for_its_queues_and_asks_for_them(processor, topology, connection):
    """First for the exchanges, then for its queues, which it announces as missing; it is ready once they exist."""
    await wait_until_it_says(processor, f"the exchange {topology.jobs.name} does not exist: no tracker has declared it")
    await declare(connection, topology.exchanges, (topology.worker_queue, topology.unrouted_queue))
    await wait_until_it_says(processor, "the queue default does not exist: no tracker has declared it")
    channel = await connection.channel()
    announced = await channel.get_queue(topology.worker_queue.name)
    message = await wait_until_async(lambda: announced.get(fail=False), within=20, what="it announces what is missing")
    event = decode_worker_event(message.body)
    assert isinstance(event, ProcessorAnnounced)
    assert ((), ("default",)) == (event.announcement.types, event.announcement.missing_queues)
    await declare(connection, (), (*topology.shared_queues, *topology.work_queues(["default"])))
    await asyncio.to_thread(wait_until, lambda: processes.answers(processor.ready_url), within=60, what="it is ready")


async def test_a_processor_that_waits_for_its_queues_stops_at_once(processor, topology, connection):
    """It has started nothing that it would have to wait for."""
    await declare(connection, topology.exchanges, (topology.worker_queue,))
    await wait_until_it_says(processor, "the queue default does not exist")
    found = processes.find(processor)
    found.terminate()
    assert 0 == await asyncio.to_thread(found.wait, 20)
