"""What is asked for again and again is told out of memory: that nothing newer was said is proved by a real Redis."""

import asyncio

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio.connection import Connection
from samples import ENDED, ID, RUNNING, SUBMITTED, TRACE
from waiting import wait_until_async

from milepost_contracts.events import JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.keys import shard_of
from milepost_contracts.view import merge
from milepost_gateway import changes as changes_module
from milepost_gateway.polls import Polls
from milepost_gateway.store import RedisStatusStore as Reader

SUBMISSION, START, END = (
    JobSubmitted(job=SUBMITTED, traceparent=TRACE),
    JobStarted(job=RUNNING),
    JobSucceeded(job=ENDED),
)


@pytest.fixture
def change(redis_url, keys):
    """Changes the job as a tracker does, while nothing else is done here: when it returns, no word has come of it."""
    with BlockingRedis.from_url(redis_url) as redis:

        def change(version):
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(keys.job(ID), "version", version)
                pipe.publish(keys.changes(shard_of(ID)), f"{ID} {version} running")
                pipe.execute()

        yield change


async def test_all_is_heard_that_was_said_before(store, changes, change, monkeypatch):
    """Whoever asks for that may go by what was told: nothing is on its way any more."""
    monkeypatch.setattr(changes_module, "PROVEN_WITHIN", 10)
    await store.apply(merge([SUBMISSION]))
    told = []
    assert not changes.attend(ID, told.append).is_set()
    async with changes.listen([ID]):
        assert changes.attend(ID, told.append).is_set()
    for version in range(100):
        change(version)
        assert [] == told
        assert await changes.all_heard()
        assert {ID} == set(told)
        told.clear()


async def lost(heard):
    return not heard.is_set()


async def test_nobody_says_that_all_is_heard_once_the_connection_is_lost(changes, redis):
    """What was said meanwhile is not heard, and the library that connects anew by itself does not say so."""
    async with changes.listen([ID]):
        heard = changes.attend(ID, print)
        assert heard.is_set()
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await wait_until_async(lambda: lost(heard), within=5, what="it is known that the connection was lost")
        assert not await changes.all_heard()
        await wait_until_async(changes.all_heard, within=10, what="it is heard again")


async def test_a_subscription_that_says_nothing_is_given_up_by_who_is_in_doubt(changes, monkeypatch):
    """They are not kept waiting: they look for themselves."""

    async def unheard(self, question):
        del self, question

    async with changes.listen([ID]):
        heard = changes.attend(ID, print)
        monkeypatch.setattr(changes_module, "PROVEN_WITHIN", 0.05)
        monkeypatch.setattr(changes_module._Subscription, "ask", unheard)
        assert not await changes.all_heard()
        await wait_until_async(lambda: lost(heard), within=5, what="the subscription is given up")


class CountingReader(Reader):
    """Counts what is not told out of memory."""

    reads = 0

    async def get(self, job_id):
        self.reads += 1
        return await super().get(job_id)


@pytest.fixture
async def polled(redis, keys, changes, another):
    """Two gateways that are polled; waits until both remember the job."""
    stores = [CountingReader(redis, keys) for _ in range(2)]
    gateways = [Polls(store, one) for store, one in zip(stores, (changes, another), strict=True)]

    async def remembered():
        before = [store.reads for store in stores]
        for gateway in gateways:
            await gateway.get(ID)
        return before == [store.reads for store in stores]

    async def polled():
        await wait_until_async(remembered, within=10, what="both remember the job")
        return gateways

    return polled


async def test_two_gateways_never_contradict_each_other(store, polled, change):
    """Whichever of them is asked, no version goes back."""
    await store.apply(merge([SUBMISSION, START]))
    one, two = await polled()
    first = (await one.get(ID)).version
    for at in range(first + 1, first + 51):
        await polled()
        change(at)
        assert [at, at] == [(await gateway.get(ID)).version for gateway in (one, two)[:: 1 if at % 2 else -1]]


async def test_a_connection_that_is_made_anew_proves_nothing(store, polled, change, redis, monkeypatch):
    """Not even while it is being made: redis-py does so by itself, and what was said meanwhile is lost."""
    await store.apply(merge([SUBMISSION, START]))
    gateways = await polled()
    at = (await gateways[0].get(ID)).version + 1
    greeted, go_on, greet = asyncio.Event(), asyncio.Event(), Connection.on_connect_check_health

    async def slowly(self, *args, **kwargs):
        await greet(self, *args, **kwargs)
        greeted.set()
        await go_on.wait()

    monkeypatch.setattr(Connection, "on_connect_check_health", slowly)
    await redis.client_kill_filter(_type="pubsub", skipme=True)
    change(at)
    await asyncio.wait_for(greeted.wait(), 5)
    monkeypatch.setattr(Connection, "on_connect_check_health", greet)
    asking = [asyncio.create_task(gateway.get(ID)) for gateway in gateways]
    for _ in range(100):  # turns of the loop, in which they may ask the new connection
        await asyncio.sleep(0)
    go_on.set()
    assert [at, at] == [stored.version for stored in await asyncio.gather(*asking)]


async def test_who_is_told_of_a_job_that_is_forgotten_is_not_told_of_it_any_more(store, polled, redis, keys):
    """At any gateway: 410 is not taken back."""
    await store.apply(merge([SUBMISSION, START, END]))
    gateways = await polled()
    await redis.zadd(keys.expiry(shard_of(ID)), {ID: 1})
    assert 1 == await store.sweep()
    assert [None, None] == [await gateway.get(ID) for gateway in gateways]
