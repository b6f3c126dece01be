"""A job may wait for longer than the log keeps events: it is told of again, to the log alone."""

import asyncio
from datetime import timedelta

import pytest
from job_histories import RETENTION
from samples import SUBMITTED

from milepost_contracts.envelope import now
from milepost_contracts.events import JobScheduled, JobStarted, JobSucceeded, decode_event
from milepost_contracts.view import merge
from milepost_rabbit.declare import declare
from milepost_tracker.errors import LogUnavailable
from milepost_tracker.log import StreamLog
from milepost_tracker.outbox import RabbitOutbox
from milepost_tracker.replay import Replayer
from milepost_tracker.retell import Reteller
from milepost_tracker.store import RedisStatusStore

LONG_AGO = now() - RETENTION


@pytest.fixture
def store(redis, keys):
    return RedisStatusStore(redis, keys, retention=RETENTION, live_for=timedelta(days=30))


@pytest.fixture
async def outbox(rabbitmq_url, connection, topology):
    await declare(connection, topology.exchanges, topology.shared_queues)
    made = RabbitOutbox(rabbitmq_url, topology)
    made.link.start()
    await asyncio.wait_for(made.link.wait_up(), 10)
    yield made
    await made.link.close()


@pytest.fixture
def log(rabbitmq_url, topology):
    return StreamLog(rabbitmq_url, topology)


def scheduled(name, **changes):
    told = {"id": name, "created_at": LONG_AGO, "run_at": now() + timedelta(days=60), **changes}
    return JobScheduled(job=SUBMITTED.model_copy(update=told), time=LONG_AGO)


async def said(log):
    return [decode_event(body) async for page in log.read(None) for body in page.bodies]


async def test_the_log_is_read_on_from_the_place_where_the_last_page_ended(outbox, log):
    """To the very event: no clock is asked, and nothing is read twice. Where nothing came, an empty page says so."""
    first, second = scheduled("first"), scheduled("second")
    await outbox.retell(first)
    *_, page = [page async for page in log.read(None)]
    assert [("first", first.sequence)] == [(one.subject, one.sequence) for one in map(decode_event, page.bodies)]
    await outbox.retell(second)
    *_, after = [later async for later in log.read(page.end)]
    assert ["second"] == [decode_event(body).subject for body in after.bodies]
    assert [[]] == [later.bodies async for later in log.read(after.end)]


async def test_a_log_that_began_anew_can_not_be_read_on_from_a_place_of_the_old_one(outbox, log, monkeypatch):
    """Somebody deleted it: who reads on is told so, and begins by the time again."""
    await outbox.retell(scheduled("first"))
    with monkeypatch.context() as hasty:
        hasty.setattr("milepost_tracker.log.SILENT", 0.5)
        with pytest.raises(LogUnavailable):
            _ = [page async for page in log.read(1_000)]
    *_, page = [page async for page in log.read(now() - timedelta(minutes=1))]
    assert ["first"] == [decode_event(body).subject for body in page.bodies]


async def test_a_log_is_read_by_a_clock_that_is_ahead(outbox, log):
    """What is there by then is not; it says so at once, and the place from which it can be read on."""
    await outbox.retell(scheduled("first"))
    *_, page = [page async for page in log.read(now() + timedelta(minutes=10))]
    await outbox.retell(scheduled("second"))
    *_, after = [later async for later in log.read(page.end)]
    assert ["second"] == [decode_event(body).subject for body in after.bodies]


async def test_what_has_waited_long_is_said_again_and_nothing_else(store, outbox, log):
    """Once in a while, a shard at a time; what is young or has ended needs no telling."""
    waits, runs = scheduled("waits"), scheduled("runs")
    started = JobStarted(job=runs.job.model_copy(update={"turn": 1, "attempt": 1, "started_at": now()}))
    young, ends = scheduled("young", created_at=now()), scheduled("ends")
    ended = JobSucceeded(job=ends.job.model_copy(update={"turn": 1, "attempt": 1, "finished_at": now()}))
    await store.apply(merge([waits, runs, started, young, ends, ended]))
    reteller = Reteller(store, outbox, retention=RETENTION)
    assert 2 == await reteller.retell()
    again = await said(log)
    assert {(one.fact, one.subject, one.sequence) for one in again} == {
        (one.fact, one.subject, one.sequence) for one in (waits, started)
    }
    assert 0 == await reteller.retell(), "its turn comes again after a third of the retention"


async def kept(redis, key):
    """What Redis has of a job, but for versions, when it was heard of, and what is there for listeners."""
    apart = (b"version", b"due", b"step", b"forgotten")
    return {name: value for name, value in (await redis.hgetall(key)).items() if not name.startswith(apart)}


async def test_from_what_was_told_again_the_view_is_rebuilt_as_it_was(store, outbox, log, redis, keys):
    """Every field but the version and when we heard of it; with the log's first word of the job long gone."""
    waits = scheduled("waits")
    await store.apply(merge([waits]))
    before = await kept(redis, keys.job("waits"))
    await Reteller(store, outbox, retention=RETENTION).retell()
    await redis.delete(keys.job("waits"))

    async def nothing(job_ids):
        assert not job_ids

    await Replayer(store, log, conclude=nothing).replay(None)
    assert before == await kept(redis, keys.job("waits"))
