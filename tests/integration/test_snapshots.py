"""Redis is restored from an old snapshot: what it lacks is applied from the log before anybody may read it."""

from datetime import datetime, timedelta

import pytest
from job_histories import LONG_RETENTION
from samples import RUNNING, SUBMITTED
from trusted import TRUST, received

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.status.merge import merge
from milepost_contracts.status.redis_keys import SHARDS
from milepost_gateway.errors import NotKnownYet
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.core.replay import Replayer
from milepost_tracker.errors import EventLogUnavailable
from milepost_tracker.ports.event_log import LogPage

AGO = now() - timedelta(minutes=30)
CREATED = {"created_at": AGO, "tags": ()}


def minutes(count):
    return AGO + timedelta(minutes=count)


def submitted(job_id, at):
    return JobSubmitted(job=SUBMITTED.model_copy(update={**CREATED, "id": job_id}), time=at)


def started(job_id, at):
    return JobStarted(job=RUNNING.model_copy(update={**CREATED, "id": job_id, "started_at": at}), time=at)


def succeeded(job_id, at):
    job = RUNNING.model_copy(update={**CREATED, "id": job_id, "step": 9, "finished_at": at})
    return JobSucceeded(job=job, time=at)


BEFORE = [submitted("one", minutes(0)), started("one", minutes(0)), submitted("two", minutes(1))]
"""What the snapshot has."""
AFTER = [succeeded("one", minutes(2)), submitted("three", minutes(3)), started("two", minutes(4))]
"""What was projected after it, by a tracker that has ended."""
LATER = [succeeded("three", minutes(20))]
EXPECTED = {"one": "succeeded", "two": "running", "three": "succeeded"}


class FakeLog:
    """Reads as a stream does: from an offset, or from about a time on."""

    def __init__(self):
        self.events = []
        self.cut = False
        self.oldest_read = now()

    async def read(self, since):
        if self.cut:
            raise EventLogUnavailable("cut")
        events = self.events[since:] if isinstance(since, int) else self.events
        if isinstance(since, datetime):
            events = [event for event in events if event.time >= since]
        self.oldest_read = min([self.oldest_read, *(event.time for event in events)])
        yield LogPage(messages=[received(event) for event in events], end=len(self.events))


@pytest.fixture
def log():
    return FakeLog()


@pytest.fixture
def tracker(redis, keys, log, monkeypatch):
    """Return a function that starts a tracker; others have no time to object."""
    monkeypatch.setattr("milepost_tracker.adapters.redis.checkpoints.OBJECTION_PERIOD", timedelta(0))

    async def conclude(job_ids):
        del job_ids

    def start():
        store = RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=LONG_RETENTION)
        return store, Replayer(TRUST, store, log, conclude=conclude)

    return start


async def project(store, log, events):
    """Apply events one by one, as they come; the log has them too."""
    for event in events:
        log.events.append(event)
        await store.apply(merge([event]))


async def saved(redis, keys):
    return {key: await redis.dump(key) async for key in redis.scan_iter(match=f"{keys.namespace}:*", count=1000)}


async def restore(redis, keys, snapshot):
    """Bring a snapshot back, on a server that was started anew."""
    await redis.delete(*[key async for key in redis.scan_iter(match=f"{keys.namespace}:*", count=1000)])
    for key, value in snapshot.items():
        await redis.restore(key, 3_600_000, value)
    for shard in range(SHARDS):
        await redis.hset(keys.checkpoint(shard), "complete", "0" * 40)


async def until_restored(replayer):
    for _ in range(5):
        if await replayer._restore():
            return
    raise AssertionError("it is not complete")


async def statuses(reader):
    return {job_id: stored and stored.summary.status for job_id in EXPECTED for stored in [await reader.get(job_id)]}


@pytest.fixture
async def ended(tracker):
    """The store of a tracker that ends without a word."""
    store, _ = tracker()
    await store.checkpoints.begin_replay(range(SHARDS))
    assert await store.checkpoints.mark_complete(range(SHARDS))
    return store


@pytest.fixture
async def crashed(ended, redis, keys, log):
    """A Redis that was restored from a snapshot; of what it lacks, no living tracker has written anything."""
    await project(ended, log, BEFORE)
    snapshot = await saved(redis, keys)
    await project(ended, log, AFTER)
    await restore(redis, keys, snapshot)


async def test_what_an_old_snapshot_lacks_is_applied_before_it_is_read(crashed, tracker, reader, log):
    """Although no tracker remembers it, and it happened long before the trackers' last audit."""
    log.events += LATER
    store, replayer = tracker()
    await store.checkpoints.lost_shards()
    with pytest.raises(NotKnownYet):
        await reader.get("one")
    await until_restored(replayer)
    assert EXPECTED == await statuses(reader)


async def test_a_log_is_read_from_the_last_event_of_the_snapshot_on(crashed, tracker, log):
    """Not from its beginning: that would take long."""
    log.events[:0] = [submitted("old", AGO - timedelta(hours=5))]
    _, replayer = tracker()
    await until_restored(replayer)
    assert minutes(0) == log.oldest_read


async def test_what_is_written_to_an_old_snapshot_does_not_hide_its_age(crashed, tracker, reader, log):
    """Trackers write as soon as Redis is back; another one may start later, or read the log later."""
    first, _ = tracker()
    await project(first, log, LATER)
    log.cut = True
    _, replayer = tracker()
    with pytest.raises(EventLogUnavailable):
        await replayer._restore()
    log.cut = False
    _, replayer = tracker()
    await until_restored(replayer)
    assert EXPECTED == await statuses(reader)


async def test_a_running_tracker_also_applies_what_others_have_written(tracker, ended, redis, keys, reader, log):
    """It finds its own writes missing; those of a tracker that has ended are missing in other shards."""
    await project(ended, log, BEFORE)
    snapshot = await saved(redis, keys)
    await project(ended, log, AFTER)
    running, replayer = tracker()
    await until_restored(replayer)
    await replayer._audit()
    await project(running, log, LATER)
    await restore(redis, keys, snapshot)
    await until_restored(replayer)
    assert EXPECTED == await statuses(reader)


async def test_another_loss_before_the_confirmation_is_noticed(crashed, tracker, reader, redis, keys, log):
    """The same snapshot once more: what was applied to the server before is gone again."""
    snapshot = await saved(redis, keys)
    store, replayer = tracker()
    await store.checkpoints.lost_shards()
    await replayer._catch_up()
    await restore(redis, keys, snapshot)
    store.checkpoints._server = "another"
    log.events += LATER
    await until_restored(replayer)
    assert EXPECTED == await statuses(reader)
