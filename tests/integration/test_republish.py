"""A job may wait for longer than the log keeps events: its latest event is republished, to the log only."""

import asyncio
from datetime import timedelta

import pytest
from job_histories import RETENTION
from samples import SUBMITTED
from trusted import TRUST_ONE_USER, own

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobScheduled, JobStarted, JobSucceeded, decode_event
from milepost_contracts.status.merge import merge
from milepost_rabbit.declare import declare
from milepost_rabbit.publisher import RabbitPublisher
from milepost_tracker.adapters.rabbit.event_log import RabbitEventLog
from milepost_tracker.adapters.rabbit.event_publisher import RabbitEventPublisher
from milepost_tracker.adapters.redis.republish_store import RedisRepublishStore
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.core.replay import Replayer
from milepost_tracker.core.republish import Republisher
from milepost_tracker.errors import EventLogUnavailable

LONG_AGO = now() - RETENTION


@pytest.fixture
def store(redis, keys):
    return RedisStatusStore(redis, keys, retention=RETENTION, live_for=timedelta(days=30))


@pytest.fixture
def republisher(redis, keys, store, publisher):
    jobs = RedisRepublishStore(redis, keys, store, live_for=timedelta(days=30))
    return Republisher(jobs, publisher, retention=RETENTION)


@pytest.fixture
async def publisher(rabbitmq_url, connection, topology):
    await declare(connection, topology.exchanges, topology.shared_queues)
    confirming = RabbitPublisher(rabbitmq_url, name="test")
    confirming.link.start()
    await asyncio.wait_for(confirming.link.wait_up(), 10)
    yield RabbitEventPublisher(confirming, topology)
    await confirming.link.close()


@pytest.fixture
def log(rabbitmq_url, topology):
    return RabbitEventLog(rabbitmq_url, topology)


def scheduled(name, **changes):
    fields = {"id": name, "created_at": LONG_AGO, "run_at": now() + timedelta(days=60), **changes}
    return JobScheduled(job=own(SUBMITTED, **fields), time=LONG_AGO)


def decoded(page):
    return [decode_event(one.body) for one in page.messages]


async def events_in(log):
    return [decode_event(one.body) async for page in log.read(None) for one in page.messages]


async def test_the_log_is_read_on_from_the_offset_of_the_last_page(publisher, log):
    """By offset, not by time: no event is read twice. At the end of the log, an empty page is returned."""
    first, second = scheduled("first"), scheduled("second")
    await publisher.republish(first)
    *_, page = [page async for page in log.read(None)]
    assert [("first", first.sequence)] == [(one.subject, one.sequence) for one in decoded(page)]
    await publisher.republish(second)
    *_, after = [later async for later in log.read(page.end)]
    assert ["second"] == [one.subject for one in decoded(after)]
    assert [[]] == [later.messages async for later in log.read(after.end)]


async def test_an_offset_of_a_deleted_log_is_an_error(publisher, log, monkeypatch):
    """If the log was deleted and declared again, the reader gets an error, and reads by time instead."""
    await publisher.republish(scheduled("first"))
    with monkeypatch.context() as patched:
        patched.setattr("milepost_tracker.adapters.rabbit.event_log.SILENCE_LIMIT", 0.5)
        with pytest.raises(EventLogUnavailable):
            _ = [page async for page in log.read(1_000)]
    *_, page = [page async for page in log.read(now() - timedelta(minutes=1))]
    assert ["first"] == [one.subject for one in decoded(page)]


async def test_a_log_can_be_read_from_a_time_in_the_future(publisher, log):
    """It returns at once, with the offset to read on from."""
    await publisher.republish(scheduled("first"))
    *_, page = [page async for page in log.read(now() + timedelta(minutes=10))]
    await publisher.republish(scheduled("second"))
    *_, after = [later async for later in log.read(page.end)]
    assert ["second"] == [one.subject for one in decoded(after)]


async def test_only_old_unfinished_jobs_are_republished(store, republisher, log):
    """One shard at a time; jobs that are new or have ended are left out."""
    waits, runs = scheduled("waits"), scheduled("runs")
    started = JobStarted(job=runs.job.model_copy(update={"delivery": 1, "attempt": 1, "started_at": now()}))
    young, ends = scheduled("young", created_at=now()), scheduled("ends")
    ended = JobSucceeded(job=ends.job.model_copy(update={"delivery": 1, "attempt": 1, "finished_at": now()}))
    await store.apply(merge([waits, runs, started, young, ends, ended]))
    assert 2 == await republisher.republish()
    republished = await events_in(log)
    assert {(one.fact, one.subject, one.sequence) for one in republished} == {
        (one.fact, one.subject, one.sequence) for one in (waits, started)
    }
    assert 0 == await republisher.republish(), "the next time is after a third of the retention"


async def stored_fields(redis, key):
    """Return a job's fields in Redis, except versions, its deadline and its history."""
    left_out = (b"version", b"due", b"event:", b"history")
    return {name: value for name, value in (await redis.hgetall(key)).items() if not name.startswith(left_out)}


async def test_a_view_is_rebuilt_from_republished_events(store, republisher, log, redis, keys):
    """All fields are equal except version, deadline and history, although the log has lost the original events."""
    waits = scheduled("waits")
    await store.apply(merge([waits]))
    before = await stored_fields(redis, keys.job("waits"))
    await republisher.republish()
    await redis.delete(keys.job("waits"))

    async def nothing(job_ids):
        assert not job_ids

    await Replayer(TRUST_ONE_USER, store, log, conclude=nothing).replay(None)
    assert before == await stored_fields(redis, keys.job("waits"))
