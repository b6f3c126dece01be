"""Real parts for every test that wants them: one stack for the session, and a namespace of its own for each test.

Imports happen inside the fixtures: the unit tests of a package also run where nothing else is installed.
"""

import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

collect_ignore = ["foreign"]  # it has an environment of its own: 'make foreign'

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

ROOT = Path(__file__).parent.parent
NO_TTL = -1
STACKS = ROOT / ".milepost" / "test-stacks"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The faults take longest: one worker begins with them, so that it is not at them when the others are done."""
    items.sort(key=lambda item: "faults" not in item.path.parts)


def say(text):
    print(f"stack: {text}", file=sys.stderr)


@pytest.fixture(scope="session")
def start_stack():
    """Start stacks that end with the session, at the latest."""
    from milepost_stack import ports
    from milepost_stack.stack import Size, Stack

    # A port that one worker has chosen and not bound yet is still free for the other.
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    ports.CHOICE = ports.CHOICE[int(worker.removeprefix("gw")) :: int(workers)]
    started = []

    def start(name, *, gateways=0, processors=0, trackers=0, settings=None):
        stack = Stack(STACKS, f"{name}-{os.getpid()}", say)
        size = Size(gateways=gateways, processors=processors, trackers=trackers)
        stack.up(size, port=0, settings={"MILEPOST_LOG_LEVEL": "info", **(settings or {})})
        started.append(stack)
        return stack

    yield start
    for stack in started:
        if stack.state is not None:
            stack.down()


@pytest.fixture(scope="session")
def stack(start_stack):
    """A whole Milepost: one gateway, two processors, one tracker."""
    return start_stack("session", gateways=1, processors=2, trackers=1)


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
    """A namespace that nobody else uses. What a test leaves in Redis must have a TTL; its queues are removed."""
    import aio_pika
    from redis.asyncio import Redis

    from milepost_contracts.topology import Topology

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
    from milepost_contracts.topology import Topology

    return Topology(namespace=namespace)


@pytest.fixture
def keys(namespace):
    from milepost_contracts.keys import Keys

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
