"""What the tracker keeps of a job's events, and how a gateway hears and reads of them, in a real Redis."""

import asyncio
import json
from datetime import timedelta
from itertools import count

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from samples import ENDED, ID, RUNNING, SUBMITTED, TRACE
from waiting import wait_until_async

from milepost_contracts.envelope import encode, now
from milepost_contracts.events import (
    CancelRequest,
    CancelRequested,
    JobProgressed,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.keys import shard_of
from milepost_contracts.view import merge
from milepost_gateway import changes as changes_module
from milepost_gateway.changes import RedisChanges
from milepost_gateway.errors import NotKnownYet
from milepost_gateway.polls import Polls
from milepost_gateway.store import RedisStatusStore as Reader
from milepost_rabbit.cancelling import end

KEPT = 16


@pytest.fixture
async def hearing(redis_url):
    """A client that tries again at once, as a gateway's does."""
    async with Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1)) as made:
        yield made


@pytest.fixture
async def changes(hearing, keys):
    """A gateway's subscription."""
    made = RedisChanges(hearing, keys)
    keeping = asyncio.create_task(made.keep())
    yield made
    await end([keeping])


STEPS = count(100)


def progressed(step, **changes):
    return JobProgressed(job=RUNNING.model_copy(update={"step": step, **changes}))


SUBMISSION, START, END = (
    JobSubmitted(job=SUBMITTED, traceparent=TRACE),
    JobStarted(job=RUNNING),
    JobSucceeded(job=ENDED),
)


REQUEST = CancelRequested(
    request=CancelRequest(job_id=ID, type=RUNNING.type, queue=RUNNING.queue, run=1, requested_at=RUNNING.created_at)
)


def names(told):
    return [event.name for event in told.events]


async def test_every_step_is_kept_and_of_progress_the_latest(store, reader):
    """In the order of their versions, however they came together."""
    assert await reader.told(ID, 0) is None
    await store.apply(merge([START, progressed(RUNNING.step + 1), SUBMISSION, progressed(RUNNING.step + 2)]))
    told = await reader.told(ID, 0)
    assert (["submitted", "started", "progressed"], False) == (names(told), told.terminal)
    versions = [event.version for event in told.events]
    assert sorted(set(versions)) == versions
    assert told.version == versions[-1]
    await store.apply(merge([END]))
    assert ["succeeded"] == names(await reader.told(ID, told.version))
    assert ["submitted", "started", "succeeded"] == names(await reader.told(ID, 0))
    assert (await reader.told(ID, 0)).terminal


async def test_events_are_told_as_they_travel(store, reader):
    """Byte for byte."""
    await store.apply(merge([SUBMISSION]))
    await store.apply(merge([START, progressed(RUNNING.step + 1)]))
    told = await reader.told(ID, 0)
    assert [encode(SUBMISSION), encode(START)] == [event.body for event in told.events[:2]]
    assert RUNNING.step + 1 == int(json.loads(told.events[2].body)["sequence"][-10:])


async def test_what_comes_late_is_not_told(store, reader):
    """A reader would see the job go back."""
    await store.apply(merge([END]))
    before = await reader.told(ID, 0)
    await store.apply(merge([SUBMISSION, START]))
    assert before == await reader.told(ID, 0)


async def test_a_step_that_progress_has_overtaken_is_told_all_the_same(store, reader):
    """They come by different queues; the state stays as it is."""
    await store.apply(merge([SUBMISSION]))
    await store.apply(merge([progressed(RUNNING.step + 1)]))
    before = await reader.told(ID, 0)
    await store.apply(merge([START]))
    told = await reader.told(ID, before.version)
    assert (["started"], True) == (names(told), told.version > before.version)
    everything = await reader.told(ID, 0)
    versions = [event.version for event in everything.events]
    assert (["submitted", "progressed", "started"], sorted(versions)) == (names(everything), versions)
    assert ["progressed"] == names(await reader.told(ID, 0, latest=True))
    await store.apply(merge([START, SUBMISSION]))
    assert everything == await reader.told(ID, 0), "nothing is told twice"


async def test_progress_is_told_once_whatever_else_changes(store, reader):
    """A cancel request changes the document, and is no event of the job."""
    await store.apply(merge([SUBMISSION, START, progressed(RUNNING.step + 1)]))
    seen = (await reader.told(ID, 0)).events[-1].version
    await store.apply(merge([REQUEST]))
    told = await reader.told(ID, seen)
    assert ([], True) == (names(told), told.version > seen)


async def test_what_a_replay_brings_back_leaves_a_gap(store, reader):
    """It brings back states, not every step."""
    await store.apply(merge([SUBMISSION]))
    seen = (await reader.told(ID, 0)).version
    await store.apply(merge([END]), replayed=True)
    assert (await reader.told(ID, seen)).gap


async def test_the_latest_is_told_alone(store, reader):
    """For a snapshot: whatever it is."""
    await store.apply(merge([SUBMISSION, START]))
    assert ["started"] == names(await reader.told(ID, 0, latest=True))
    await store.apply(merge([progressed(RUNNING.step + 1)]))
    assert ["progressed"] == names(await reader.told(ID, 0, latest=True))
    await store.apply(merge([END]))
    assert ["succeeded"] == names(await reader.told(ID, 0, latest=True))


async def test_of_very_many_steps_the_latest_are_kept_and_the_gap_is_told(store, reader):
    """A job that retries for months does not grow for ever."""
    await store.apply(merge([SUBMISSION]))
    first = (await reader.told(ID, 0)).version
    for turn in range(1, KEPT + 5):
        job = RUNNING.model_copy(update={"turn": turn, "run_at": RUNNING.created_at})
        await store.apply(merge([JobRetrying(job=job)]))
    told = await reader.told(ID, first)
    assert (KEPT, True) == (len(told.events), told.gap)
    assert not (await reader.told(ID, told.events[0].version)).gap


async def test_a_version_of_before_redis_forgot_everything_leaves_a_gap(store, reader, redis, keys):
    """Nobody can say what was missed."""
    await store.apply(merge([SUBMISSION, START]))
    seen = (await reader.told(ID, 0)).version
    await redis.delete(keys.job(ID))
    later = now() + timedelta(milliseconds=10)  # versions are times, in milliseconds

    async def is_later():
        return now() > later

    await wait_until_async(is_later, within=5, what="time has passed")
    await store.apply(merge([END]))
    told = await reader.told(ID, seen)
    assert (True, ["succeeded"]) == (told.gap, names(told))


async def test_a_shard_that_nobody_vouches_for_tells_nothing(store, reader, redis, keys):
    """It may have forgotten the end that a reader has seen already."""
    await store.apply(merge([SUBMISSION]))
    await redis.hdel(keys.mark(shard_of(ID)), "whole")
    with pytest.raises(NotKnownYet):
        await reader.told(ID, 0)


async def test_a_change_is_heard_at_once_and_of_no_other_job(store, changes):
    """One subscription serves all."""
    async with changes.listen([ID]) as mine, changes.listen(["another"]) as other, changes.listen([ID]) as too:
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await mine.wait(5)
        assert {ID} == await too.wait(5)
        assert set() == await other.wait(0.05)


async def test_what_was_not_heard_is_found_by_looking(store, changes, monkeypatch):
    """A hint may be lost; nobody waits for ever."""
    monkeypatch.setattr(changes_module, "LOOK_EVERY", 0.05)

    async def deaf(_pubsub):
        await asyncio.sleep(3600)

    monkeypatch.setattr(changes, "_read", deaf)
    monkeypatch.setattr(changes_module, "HEARD_WITHIN", 0.01)
    async with changes.listen([ID]) as mine:
        await mine.wait(0.1)
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await mine.wait(5)


async def test_a_lost_subscription_is_taken_up_again(store, changes, redis, keys, monkeypatch):
    """As when Redis restarts."""
    monkeypatch.setattr(changes_module, "LOOK_EVERY", 0.05)
    async with changes.listen([ID]) as mine:
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await mine.wait(5)
        await mine.wait(0.2)
        steps = count(RUNNING.step + 1)

        async def look_at_nothing(_job_ids):
            """From here on it has to be heard."""

        async def heard():
            await store.apply(merge([progressed(next(steps))]))
            return await mine.wait(0.2)

        monkeypatch.setattr(changes, "_compare", look_at_nothing)

        assert await wait_until_async(heard, within=10, what="it is heard again")


async def test_shards_that_nobody_listens_to_are_left(store, changes, redis, keys, monkeypatch):
    """What a gateway hears grows with its readers, not with the deployment."""
    monkeypatch.setattr(changes_module, "LOOK_EVERY", 0.05)
    channel = keys.changes(shard_of(ID))
    async with changes.listen([ID]):
        assert [(channel.encode(), 1)] == await redis.pubsub_numsub(channel)

    async def left():
        return await redis.pubsub_numsub(channel) == [(channel.encode(), 0)]

    await wait_until_async(left, within=5, what="the shard is left")
    async with changes.listen([ID]) as again:
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await again.wait(5)


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


async def test_all_is_heard_that_was_said_before(store, changes, change):
    """Whoever asks for that may go by what was told: nothing is on its way any more."""
    await store.apply(merge([SUBMISSION]))
    told = []
    assert not changes.attend(ID, told.append).is_set()
    async with changes.listen([ID]):
        assert changes.attend(ID, told.append).is_set()
    for version in range(100):
        change(version)
        assert [] == told
        assert await changes.all_heard()
        assert [ID] == told
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


async def test_a_subscription_that_says_nothing_is_given_up_by_who_is_in_doubt(changes, redis, monkeypatch):
    """They are not kept waiting: they look for themselves."""
    async with changes.listen([ID]):
        heard = changes.attend(ID, print)
        monkeypatch.setattr(changes_module, "PROVEN_WITHIN", 0.05)
        await redis.client_pause(500)
        assert not await changes.all_heard()
        await wait_until_async(lambda: lost(heard), within=5, what="the subscription is given up")


class CountingReader(Reader):
    """Counts what is not told out of memory."""

    reads = 0

    async def get(self, job_id):
        self.reads += 1
        return await super().get(job_id)


@pytest.fixture
async def another(hearing, keys):
    """Another gateway's subscription."""
    made = RedisChanges(hearing, keys)
    keeping = asyncio.create_task(made.keep())
    yield made
    await end([keeping])


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


async def test_ten_thousand_waits_that_are_cancelled_harm_no_other(store, reader, changes, redis_url, keys):
    """A cancelled command could leave its answer in a pooled connection, for somebody else."""
    await store.apply(merge([SUBMISSION, START]))
    expected = (await reader.told(ID, 0)).version
    async with Redis.from_url(redis_url) as redis:
        hasty = Reader(redis, keys)
        for _ in range(100):
            tasks = [asyncio.create_task(hasty.told(ID, number)) for number in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert {expected} == {one.version for one in answers if not isinstance(one, BaseException)}


async def test_jobs_with_a_tag_are_found_by_their_last_change(store, reader):
    """By Redis's own time, for its tenant; and what has happened to each since."""
    submission, end = (
        event.model_copy(update={"job": event.job.model_copy(update={"tags": ('#"é', "b"), "created_at": now()})})
        for event in (SUBMISSION, END)
    )
    begun, _ = await reader.tagged("b", tenant="default", since=0, limit=1)
    await store.apply(merge([submission]))
    middle, [(job_id, changed)] = await reader.tagged('#"é', tenant="default", since=0, limit=9)
    assert ID == job_id
    assert begun <= changed <= middle
    assert [] == (await reader.tagged("other", tenant="default", since=0, limit=9))[1]
    assert [] == (await reader.tagged("b", tenant="other", since=0, limit=9))[1]
    assert [] == (await reader.tagged("b", tenant="default", since=middle + 60_000, limit=9))[1]
    await wait_until_async(lambda: later_than(reader, middle + 5), within=5, what="some milliseconds later")
    await store.apply(merge([end]))
    _, [(_, changed)] = await reader.tagged("b", tenant="default", since=middle, limit=9, newest=True)
    assert changed > middle
    assert ["submitted", "succeeded"] == names(await reader.told(ID, 0, since_time=begun - 1_000))
    assert not (await reader.told(ID, 0, since_time=begun - 1_000)).gap
    late_by = 1_000  # the index is written after the view
    assert "succeeded" in names(await reader.told(ID, 0, since_time=changed - late_by))
    assert [] == names(await reader.told(ID, 0, since_time=changed + 60_000))


async def later_than(reader, moment):
    return (await reader.tagged("b", tenant="default", since=0, limit=1))[0] > moment


async def test_a_tag_that_nobody_listens_to_any_more_disturbs_nobody(redis, keys, store, changes):
    """Its messages come for a while: whoever listens to a job hears on."""
    async with changes.listen([ID]) as listener:
        async with changes.listen_to_tag("default", "b") as tagged:

            async def heard():
                await store.apply(merge([progressed(next(STEPS), tags=("b",))]))
                return await tagged.wait(0.1)

            await wait_until_async(heard, within=10, what="the tag is heard")
        await listener.wait(0)
        for _ in range(20):
            await store.apply(merge([progressed(next(STEPS), tags=("b",))]))
            assert {ID} == await listener.wait(0.5)


async def test_a_change_of_a_job_is_heard_by_its_tags(store, changes):
    """By whoever listens to one of them, for this tenant."""
    async with changes.listen_to_tag("default", "b") as ours, changes.listen_to_tag("other", "b") as theirs:

        async def heard():
            await store.apply(merge([progressed(next(STEPS), tags=("a", "b"))]))
            return await ours.wait(0.1)

        assert {ID} == await wait_until_async(heard, within=10, what="the change is heard")
        assert set() == await theirs.wait(0)
