"""Fixtures for tests of the status view: a tracker's store, and a gateway's readers of it."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from job_histories import LONG_RETENTION
from permitted import Deployment
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from samples import JUST_SUBMITTED

from milepost_contracts.status.redis_keys import SHARDS, shard_of
from milepost_gateway.adapters.redis.change_feed import RedisChangeFeed
from milepost_gateway.adapters.redis.job_index import RedisJobIndex
from milepost_gateway.adapters.redis.status_store import RedisStatusStore as Reader
from milepost_processor.adapters.claims import RedisClaims
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_tracker.adapters.redis.status_store import RedisStatusStore


@pytest.fixture
async def store(redis, keys):
    """A tracker's store, whose shards are complete."""
    made = RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=timedelta(days=30))
    await made.checkpoints.begin_replay(range(SHARDS))
    assert await made.checkpoints.mark_complete(range(SHARDS))
    return made


@pytest.fixture
def claims(redis_url, keys):
    """A processor's claims. The shard of the job of the samples is complete: a tracker has checked its server."""
    with BlockingRedis.from_url(redis_url) as redis:
        checkpoint = keys.checkpoint(shard_of(JUST_SUBMITTED.id))
        redis.hset(checkpoint, mapping={"complete": redis.info("server")["run_id"], "at": 1})
        redis.expire(checkpoint, 60)
        yield RedisClaims(redis, keys, retention=timedelta(days=7))


@pytest.fixture
def reader(redis, keys):
    return Reader(redis, keys)


@pytest.fixture
def index(redis, keys):
    """A gateway's lists of jobs."""
    return RedisJobIndex(redis, keys)


@pytest.fixture
async def subscribing_redis(redis_url):
    """A client that retries once at once, as a gateway's does."""
    async with Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1)) as made:
        yield made


@asynccontextmanager
async def subscribed(redis, keys):
    """Run a gateway's change feed."""
    made = RedisChangeFeed(redis, keys)
    task = asyncio.create_task(made.keep())
    yield made
    await cancel_and_wait([task])


@pytest.fixture
async def changes(subscribing_redis, keys, monkeypatch):
    """A gateway's change feed; `listen` waits until it is subscribed."""
    monkeypatch.setattr("milepost_gateway.adapters.redis.change_feed.SUBSCRIBE_TIMEOUT", 10)
    async with subscribed(subscribing_redis, keys) as made:
        yield made


@pytest.fixture
async def other_changes(subscribing_redis, keys):
    """The change feed of another gateway."""
    async with subscribed(subscribing_redis, keys) as made:
        yield made


@pytest.fixture(scope="session")
def deployment(stack, tmp_path_factory):
    """The users of a deployment of its own."""
    made = Deployment(stack, tmp_path_factory.mktemp("permissions"))
    yield made
    made.close()
