"""Fixtures for tests with real servers: one stack per session, and a namespace of its own for each test.

Imports happen inside the fixtures: a package's unit tests also run where nothing else is installed.
"""

import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

collect_ignore = ["foreign"]  # has its own environment; run by 'make foreign'

# How long an example takes depends on the machine's load, not on the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

ROOT = Path(__file__).parent.parent
NO_TTL = -1
STACKS = ROOT / ".milepost" / "test-stacks"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Run the fault tests first: they take longest, and the other workers have tests left to run meanwhile."""
    items.sort(key=lambda item: "faults" not in item.path.parts)


def log(text):
    print(f"stack: {text}", file=sys.stderr)


@pytest.fixture(scope="session")
def start_stack():
    """Start stacks; they are stopped at the end of the session at the latest."""
    from milepost_stack import free_ports
    from milepost_stack.stack import Size, Stack

    # Each worker gets its own ports: one that a worker has chosen but not yet bound looks free to the others.
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    free_ports.PORT_RANGE = free_ports.PORT_RANGE[int(worker.removeprefix("gw")) :: int(workers)]
    started = []

    def start(name, *, gateways=0, processors=0, trackers=0, settings=None, own_settings=None):
        stack = Stack(STACKS, f"{name}-{os.getpid()}", log)
        size = Size(gateways=gateways, processors=processors, trackers=trackers)
        stack.up(size, port=0, settings={"MILEPOST_LOG_LEVEL": "info", **(settings or {})}, own_settings=own_settings)
        started.append(stack)
        return stack

    yield start
    for stack in started:
        if stack.state is not None:
            stack.down()


@pytest.fixture(scope="session")
def stack(start_stack):
    """A complete Milepost: one gateway, two processors, one tracker.

    Tests kill its processors, empty its Redis, and speak to its RabbitMQ as `thief`, who has the rights of a processor,
    and as `gpu-team`, who may serve the queue `gpu` alone.
    """
    settings = {
        "PYTHONPATH": str(ROOT / "tests" / "fundamentals"),
        "MILEPOST_HANDLERS": "milepost_basics,milepost_thumbnails,unreliable_jobs",
        "MILEPOST_DELIVERY_LIMIT": "1",
        "MILEPOST_PROCESSOR_USERS": "milepost-processor,thief,gpu-team:gpu",
    }
    return start_stack("session", gateways=1, processors=2, trackers=1, settings=settings)


@pytest.fixture(scope="session")
def url(stack):
    return stack.state.url


@pytest.fixture
def client(url):
    from milepost_client import Client

    with Client(url) as made:
        yield made


@pytest.fixture(scope="session")
def rabbitmq_url(stack):
    return stack.state.rabbitmq_url


@pytest.fixture(scope="session")
def redis_url(stack):
    return stack.state.redis_url


@pytest.fixture
async def namespace(rabbitmq_url, redis_url):
    """A namespace for this test alone. Every Redis key that the test leaves must have a TTL; its queues are deleted."""
    import aio_pika
    from redis.asyncio import Redis

    from milepost_contracts.messages.topology import Topology

    name = f"t{uuid4().hex[:12]}"
    yield name
    async with Redis.from_url(redis_url) as redis:
        async for key in redis.scan_iter(match=f"{name}:*", count=1000):
            assert await redis.pttl(key) != NO_TTL, f"{key.decode()} has no TTL"
            await redis.delete(key)
    topology = Topology(namespace=name)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        for queue in (*topology.shared_queues, *topology.work_queues(["default", "cpu"])):
            await channel.queue_delete(queue.name)
        for exchange in topology.exchanges:
            await channel.exchange_delete(exchange.name)


@pytest.fixture
def topology(namespace):
    from milepost_contracts.messages.topology import Topology

    return Topology(namespace=namespace)


@pytest.fixture
def keys(namespace):
    from milepost_contracts.status.redis_keys import Keys

    return Keys(namespace=namespace)


@pytest.fixture
async def redis(redis_url):
    from redis.asyncio import Redis

    async with Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
async def connection(rabbitmq_url):
    import aio_pika

    async with await aio_pika.connect(rabbitmq_url) as made:
        yield made
