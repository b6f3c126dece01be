"""What the tracker keeps of a job's events, and how a gateway hears and reads of them, in a real Redis."""

import asyncio
import json
from datetime import timedelta
from itertools import count

import pytest
from redis.asyncio import Redis
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
from milepost_gateway.errors import NotKnownYet
from milepost_gateway.store import RedisStatusStore as Reader

KEPT = 16


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
    assert ["submitted", "succeeded"] == names(await reader.told(ID, 0, since_time=begun - 60_000))
    assert not (await reader.told(ID, 0, since_time=begun - 60_000)).gap
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
