"""A job's history of events, as a tracker stores it and a gateway reads it and is notified, in a real Redis."""

import asyncio
import json
from datetime import timedelta
from itertools import count

import pytest
from redis.asyncio import Redis
from samples import ENDED, ID, RUNNING, SUBMITTED, TRACE
from waiting import wait_until_async

from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import (
    CancelRequest,
    CancelRequested,
    JobProgressed,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.status.merge import merge
from milepost_contracts.status.redis_keys import shard_of
from milepost_gateway.adapters.redis import change_feed as changes_module
from milepost_gateway.adapters.redis.status_store import RedisStatusStore as Reader
from milepost_gateway.errors import NotKnownYet
from milepost_tracker.adapters.redis.status_store import RedisStatusStore

MAX_HISTORY = 16


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


def names(events):
    return [event.name for event in events.events]


async def test_all_lifecycle_events_are_kept_and_the_latest_progress(store, reader):
    """In the order of their versions, whichever events arrived together."""
    assert await reader.events(ID, 0) is None
    await store.apply(merge([START, progressed(RUNNING.step + 1), SUBMISSION, progressed(RUNNING.step + 2)]))
    events = await reader.events(ID, 0)
    assert (["submitted", "started", "progressed"], False) == (names(events), events.terminal)
    versions = [event.version for event in events.events]
    assert sorted(set(versions)) == versions
    assert events.version == versions[-1]
    await store.apply(merge([END]))
    assert ["succeeded"] == names(await reader.events(ID, events.version))
    assert ["submitted", "started", "succeeded"] == names(await reader.events(ID, 0))
    assert (await reader.events(ID, 0)).terminal


async def test_stored_events_are_the_published_bytes(store, reader):
    """Byte for byte."""
    await store.apply(merge([SUBMISSION]))
    await store.apply(merge([START, progressed(RUNNING.step + 1)]))
    events = await reader.events(ID, 0)
    assert [encode(SUBMISSION), encode(START)] == [event.body for event in events.events[:2]]
    assert RUNNING.step + 1 == int(json.loads(events.events[2].body)["sequence"][-10:])


async def test_an_event_older_than_the_view_is_not_added(store, reader):
    """A reader would see the job go back."""
    await store.apply(merge([END]))
    before = await reader.events(ID, 0)
    await store.apply(merge([SUBMISSION, START]))
    assert before == await reader.events(ID, 0)


async def test_progress_that_overtakes_the_start_is_streamed_after_it(store, reader):
    """Progress comes by another queue. The document has it at once; a stream sends an attempt's events in order."""
    await store.apply(merge([SUBMISSION]))
    await store.apply(merge([progressed(RUNNING.step + 1)]))
    before = await reader.events(ID, 0)
    assert ["submitted"] == names(before)
    assert "running" == (await reader.snapshot(ID)).status
    await store.apply(merge([START]))
    events = await reader.events(ID, before.version)
    assert ["started", "progressed"] == names(events)
    everything = await reader.events(ID, 0)
    versions = [event.version for event in everything.events]
    assert (["submitted", "started", "progressed"], sorted(versions)) == (names(everything), versions)
    assert events.version == versions[-1]
    assert ["progressed"] == names(await reader.events(ID, 0, latest=True))
    await store.apply(merge([START, SUBMISSION]))
    assert everything == await reader.events(ID, 0), "no event is added twice"
    await store.apply(merge([progressed(RUNNING.step + 2)]))
    assert ["progressed"] == names(await reader.events(ID, versions[-1]))


async def test_a_cancel_request_does_not_repeat_the_latest_progress(store, reader):
    """It changes the document, and is no event of the job."""
    await store.apply(merge([SUBMISSION, START, progressed(RUNNING.step + 1)]))
    seen = (await reader.events(ID, 0)).events[-1].version
    await store.apply(merge([REQUEST]))
    events = await reader.events(ID, seen)
    assert ([], True) == (names(events), events.version > seen)


async def test_replayed_events_leave_a_gap(store, reader):
    """A replay restores the latest state, not every event."""
    await store.apply(merge([SUBMISSION]))
    seen = (await reader.events(ID, 0)).version
    await store.apply(merge([END]), replayed=True)
    assert (await reader.events(ID, seen)).gap


async def test_latest_returns_only_the_latest_event(store, reader):
    """For a snapshot: whichever event it is."""
    await store.apply(merge([SUBMISSION, START]))
    assert ["started"] == names(await reader.events(ID, 0, latest=True))
    await store.apply(merge([progressed(RUNNING.step + 1)]))
    assert ["progressed"] == names(await reader.events(ID, 0, latest=True))
    await store.apply(merge([END]))
    assert ["succeeded"] == names(await reader.events(ID, 0, latest=True))


async def test_a_long_history_keeps_its_latest_events_and_reports_the_gap(store, reader):
    """A job that retries for months does not grow without limit."""
    await store.apply(merge([SUBMISSION]))
    first = (await reader.events(ID, 0)).version
    for delivery in range(1, MAX_HISTORY + 5):
        job = RUNNING.model_copy(update={"delivery": delivery, "run_at": RUNNING.created_at})
        await store.apply(merge([JobRetrying(job=job)]))
    events = await reader.events(ID, first)
    assert (MAX_HISTORY, True) == (len(events.events), events.gap)
    assert not (await reader.events(ID, events.events[0].version)).gap


async def test_a_version_from_before_a_flush_leaves_a_gap(store, reader, redis, keys):
    """It is unknown which events the reader missed."""
    await store.apply(merge([SUBMISSION, START]))
    seen = (await reader.events(ID, 0)).version
    await redis.delete(keys.job(ID))
    later = now() + timedelta(milliseconds=10)  # versions are times, in milliseconds

    async def is_later():
        return now() > later

    await wait_until_async(is_later, within=5, what="time has passed")
    await store.apply(merge([END]))
    events = await reader.events(ID, seen)
    assert (True, ["succeeded"]) == (events.gap, names(events))


async def test_events_of_an_incomplete_shard_are_refused(store, reader, redis, keys):
    """The shard may have lost the end that a reader has seen already."""
    await store.apply(merge([SUBMISSION]))
    await redis.hdel(keys.checkpoint(shard_of(ID)), "complete")
    with pytest.raises(NotKnownYet):
        await reader.events(ID, 0)


async def test_a_listener_is_notified_of_changes_of_its_own_job_only(store, changes):
    """All listeners share one subscription."""
    async with changes.listen([ID]) as mine, changes.listen(["another"]) as other, changes.listen([ID]) as too:
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await mine.wait(5)
        assert {ID} == await too.wait(5)
        assert set() == await other.wait(0.05)


async def test_a_change_whose_notification_was_lost_is_found_by_polling(store, changes, monkeypatch):
    """Versions are compared every `COMPARE_INTERVAL`."""
    monkeypatch.setattr(changes_module, "COMPARE_INTERVAL", 0.05)

    async def read_nothing(_pubsub):
        await asyncio.sleep(3600)

    monkeypatch.setattr(changes, "_read", read_nothing)
    monkeypatch.setattr(changes_module, "SUBSCRIBE_TIMEOUT", 0.01)
    async with changes.listen([ID]) as listener:
        await listener.wait(0.1)
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await listener.wait(5)


async def test_a_lost_subscription_is_renewed(store, changes, redis, keys, monkeypatch):
    """As after a restart of Redis."""
    monkeypatch.setattr(changes_module, "COMPARE_INTERVAL", 0.05)
    async with changes.listen([ID]) as listener:
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await listener.wait(5)
        await listener.wait(0.2)
        steps = count(RUNNING.step + 1)

        async def compare_nothing(_job_ids):
            """From here on, only a notification can report the change."""

        async def notified():
            await store.apply(merge([progressed(next(steps))]))
            return await listener.wait(0.2)

        monkeypatch.setattr(changes, "_compare", compare_nothing)

        assert await wait_until_async(notified, within=10, what="the listener receives changes again")


async def test_shards_without_listeners_are_unsubscribed(store, changes, redis, keys, monkeypatch):
    """A gateway's traffic grows with its readers, not with the deployment."""
    monkeypatch.setattr(changes_module, "COMPARE_INTERVAL", 0.05)
    channel = keys.changes(shard_of(ID))
    async with changes.listen([ID]):
        assert [(channel.encode(), 1)] == await redis.pubsub_numsub(channel)

    async def unsubscribed():
        return await redis.pubsub_numsub(channel) == [(channel.encode(), 0)]

    await wait_until_async(unsubscribed, within=5, what="the shard is unsubscribed")
    async with changes.listen([ID]) as again:
        await store.apply(merge([SUBMISSION]))
        assert {ID} == await again.wait(5)


async def test_cancelled_reads_do_not_mix_up_the_answers_of_others(store, reader, changes, redis_url, keys):
    """A cancelled command could leave its answer in a pooled connection, for another caller. Ten thousand reads."""
    await store.apply(merge([SUBMISSION, START]))
    expected = (await reader.events(ID, 0)).version
    async with Redis.from_url(redis_url) as redis:
        pooled_reader = Reader(redis, keys)
        for _ in range(100):
            tasks = [asyncio.create_task(pooled_reader.events(ID, number)) for number in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert {expected} == {one.version for one in answers if not isinstance(one, BaseException)}


async def test_jobs_with_a_tag_are_found_by_their_last_change(store, reader, index):
    """By the time of Redis, per tenant; and the events of each job since that time are read."""
    submission, end = (
        event.model_copy(update={"job": event.job.model_copy(update={"tags": ('#"é', "b"), "created_at": now()})})
        for event in (SUBMISSION, END)
    )
    begun, _ = await index.tagged("b", tenant="default", since=0, limit=1)
    await store.apply(merge([submission]))
    middle, [(job_id, changed)] = await index.tagged('#"é', tenant="default", since=0, limit=9)
    assert ID == job_id
    assert begun <= changed <= middle
    assert [] == (await index.tagged("other", tenant="default", since=0, limit=9))[1]
    assert [] == (await index.tagged("b", tenant="other", since=0, limit=9))[1]
    assert [] == (await index.tagged("b", tenant="default", since=middle + 60_000, limit=9))[1]
    await wait_until_async(lambda: later_than(index, middle + 5), within=5, what="some milliseconds later")
    await store.apply(merge([end]))
    _, [(_, changed)] = await index.tagged("b", tenant="default", since=middle, limit=9, newest=True)
    assert changed > middle
    assert ["submitted", "succeeded"] == names(await reader.events(ID, 0, since_time=begun - 60_000))
    assert not (await reader.events(ID, 0, since_time=begun - 60_000)).gap
    late_by = 1_000  # the index is written after the view
    assert "succeeded" in names(await reader.events(ID, 0, since_time=changed - late_by))
    assert [] == names(await reader.events(ID, 0, since_time=changed + 60_000))


async def test_an_unfinished_job_with_a_tag_is_found_for_as_long_as_it_lasts(redis, keys, index):
    """The index of changes drops it after the retention. A late event of an ended job does not bring that back."""
    store = RedisStatusStore(redis, keys, retention=timedelta(milliseconds=1), live_for=timedelta(days=30))
    submission, progress, end = (
        event.model_copy(update={"job": event.job.model_copy(update={"tags": ("b",), "created_at": now()})})
        for event in (SUBMISSION, JobProgressed(job=RUNNING), END)
    )
    for event in (submission, submission, progress):
        await store.apply(merge([event]))
        assert [ID] == list(await index.unfinished("b", tenant="default", limit=9))
    assert [] == list(await index.unfinished("b", tenant="other", limit=9))
    await store.apply(merge([end]))
    await store.apply(merge([progress, submission]))
    assert [] == list(await index.unfinished("b", tenant="default", limit=9))


async def later_than(index, moment):
    return (await index.tagged("b", tenant="default", since=0, limit=1))[0] > moment


async def test_messages_of_a_tag_without_listeners_do_not_disturb_other_listeners(redis, keys, store, changes):
    """They arrive for a while after the last listener has left."""
    async with changes.listen([ID]) as listener:
        async with changes.listen_to_tag("default", "b") as tagged:

            async def notified():
                await store.apply(merge([progressed(next(STEPS), tags=("b",))]))
                return await tagged.wait(0.1)

            await wait_until_async(notified, within=10, what="the listener of the tag is notified")
        await listener.wait(0)
        for _ in range(20):
            await store.apply(merge([progressed(next(STEPS), tags=("b",))]))
            assert {ID} == await listener.wait(0.5)


async def test_a_change_notifies_the_listeners_of_the_jobs_tags(store, changes):
    """Of each of its tags, for its tenant only."""
    async with changes.listen_to_tag("default", "b") as ours, changes.listen_to_tag("other", "b") as theirs:

        async def notified():
            await store.apply(merge([progressed(next(STEPS), tags=("a", "b"))]))
            return await ours.wait(0.1)

        assert {ID} == await wait_until_async(notified, within=10, what="the listener is notified")
        assert set() == await theirs.wait(0)
