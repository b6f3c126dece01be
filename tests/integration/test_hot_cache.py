"""The hot cache with a real Redis: jobs that are polled often are answered from memory, but never outdated."""

import asyncio

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio.connection import Connection
from samples import ENDED, ID, RUNNING, SUBMITTED, TRACE
from waiting import wait_until_async

from milepost_contracts.messages.job_events import JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.status.merge import merge
from milepost_contracts.status.redis_keys import shard_of
from milepost_gateway.adapters.redis import change_feed as changes_module
from milepost_gateway.adapters.redis.hot_cache import HotCache
from milepost_gateway.adapters.redis.status_store import RedisStatusStore as Reader

SUBMISSION, START, END = (
    JobSubmitted(job=SUBMITTED, traceparent=TRACE),
    JobStarted(job=RUNNING),
    JobSucceeded(job=ENDED),
)


@pytest.fixture
def change(redis_url, keys):
    """Change the job as a tracker does, but blocking the loop: no notification was received when it returns."""
    with BlockingRedis.from_url(redis_url) as redis:

        def change(version):
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(keys.job(ID), "version", version)
                pipe.publish(keys.changes(shard_of(ID)), f"{ID} {version} running")
                pipe.execute()

        yield change


async def test_all_received_means_that_every_earlier_change_was_received(store, changes, change, monkeypatch):
    """After it, a cached answer is current: no earlier notification is in flight."""
    monkeypatch.setattr(changes_module, "PROOF_TIMEOUT", 10)
    await store.apply(merge([SUBMISSION]))
    events = []
    assert not changes.subscribe(ID, events.append).is_set()
    async with changes.listen([ID]):
        assert changes.subscribe(ID, events.append).is_set()
    for version in range(100):
        change(version)
        assert [] == events
        assert await changes.all_received()
        assert {ID} == set(events)
        events.clear()


async def lost(subscribed):
    return not subscribed.is_set()


async def test_all_received_is_false_after_the_connection_was_lost(changes, redis):
    """Notifications may have been missed; redis-py reconnects by itself and does not report it."""
    async with changes.listen([ID]):
        subscribed = changes.subscribe(ID, print)
        assert subscribed.is_set()
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await wait_until_async(lambda: lost(subscribed), within=5, what="the loss of the connection is known")
        assert not await changes.all_received()
        await wait_until_async(changes.all_received, within=10, what="the subscription is renewed")


async def test_a_subscription_that_does_not_answer_a_ping_is_replaced(changes, monkeypatch):
    """Readers do not wait for it: they read from Redis."""

    async def send_nothing(self, question):
        del self, question

    async with changes.listen([ID]):
        subscribed = changes.subscribe(ID, print)
        monkeypatch.setattr(changes_module, "PROOF_TIMEOUT", 0.05)
        monkeypatch.setattr(changes_module._Subscription, "send_ping", send_nothing)
        assert not await changes.all_received()
        await wait_until_async(lambda: lost(subscribed), within=5, what="the subscription is given up")


class CountingReader(Reader):
    """Counts the reads that were not answered from memory."""

    reads = 0

    async def get(self, job_id):
        self.reads += 1
        return await super().get(job_id)


@pytest.fixture
async def polled(redis, keys, changes, other_changes):
    """Return a function that polls two gateways until both answer from memory."""
    stores = [CountingReader(redis, keys) for _ in range(2)]
    gateways = [HotCache(store, one) for store, one in zip(stores, (changes, other_changes), strict=True)]

    async def cached():
        before = [store.reads for store in stores]
        for gateway in gateways:
            await gateway.get(ID)
        return before == [store.reads for store in stores]

    async def polled():
        await wait_until_async(cached, within=10, what="both have cached the job")
        return gateways

    return polled


async def test_two_gateways_never_return_an_older_version(store, polled, change):
    """Whichever of them is asked first after a change."""
    await store.apply(merge([SUBMISSION, START]))
    one, two = await polled()
    first = (await one.get(ID)).version
    for at in range(first + 1, first + 51):
        await polled()
        change(at)
        assert [at, at] == [(await gateway.get(ID)).version for gateway in (one, two)[:: 1 if at % 2 else -1]]


async def test_a_reconnected_subscription_does_not_confirm_the_cache(store, polled, change, redis, monkeypatch):
    """Not even during the reconnect: redis-py does it by itself, and changes in between are missed."""
    await store.apply(merge([SUBMISSION, START]))
    gateways = await polled()
    at = (await gateways[0].get(ID)).version + 1
    connected, go_on, check_health = asyncio.Event(), asyncio.Event(), Connection.on_connect_check_health

    async def check_health_slowly(self, *args, **kwargs):
        await check_health(self, *args, **kwargs)
        connected.set()
        await go_on.wait()

    monkeypatch.setattr(Connection, "on_connect_check_health", check_health_slowly)
    await redis.client_kill_filter(_type="pubsub", skipme=True)
    change(at)
    await asyncio.wait_for(connected.wait(), 5)
    monkeypatch.setattr(Connection, "on_connect_check_health", check_health)
    asking = [asyncio.create_task(gateway.get(ID)) for gateway in gateways]
    for _ in range(100):  # iterations of the event loop, in which they may use the new connection
        await asyncio.sleep(0)
    go_on.set()
    assert [at, at] == [stored.version for stored in await asyncio.gather(*asking)]


async def test_a_swept_job_is_no_longer_answered_from_memory(store, polled, redis, keys):
    """At any gateway: a 410 is final."""
    await store.apply(merge([SUBMISSION, START, END]))
    gateways = await polled()
    await redis.zadd(keys.expiry(shard_of(ID)), {ID: 1})
    assert 1 == await store.sweep()
    assert [None, None] == [await gateway.get(ID) for gateway in gateways]
