"""What tests of the status view work with: a tracker's store, and a gateway's reader of it."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from milepost_contracts.keys import SHARDS
from milepost_gateway.changes import RedisChanges
from milepost_gateway.store import RedisStatusStore as Reader
from milepost_rabbit.cancelling import end
from milepost_tracker.store import RedisStatusStore


@pytest.fixture
async def store(redis, keys):
    """A tracker's store, whole."""
    made = RedisStatusStore(redis, keys, retention=timedelta(days=7), live_for=timedelta(days=30))
    await made.watermarks.begin_replay(range(SHARDS))
    assert await made.watermarks.mark(range(SHARDS))
    return made


@pytest.fixture
def reader(redis, keys):
    return Reader(redis, keys)


@pytest.fixture
async def hearing(redis_url):
    """A client that tries again at once, as a gateway's does."""
    async with Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1)) as made:
        yield made


@asynccontextmanager
async def kept(redis, keys):
    """Keep a gateway's subscription."""
    made = RedisChanges(redis, keys)
    keeping = asyncio.create_task(made.keep())
    yield made
    await end([keeping])


@pytest.fixture
async def changes(hearing, keys, monkeypatch):
    """A gateway's subscription; who listens waits until it is there."""
    monkeypatch.setattr("milepost_gateway.changes.HEARD_WITHIN", 10)
    async with kept(hearing, keys) as made:
        yield made


@pytest.fixture
async def another(hearing, keys):
    """Another gateway's subscription."""
    async with kept(hearing, keys) as made:
        yield made
