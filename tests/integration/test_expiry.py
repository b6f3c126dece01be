"""How long jobs are kept: an ended job from its end on, whenever its events arrive."""

from datetime import UTC, datetime, timedelta

import pytest
from samples import ENDED, ID, RUNNING, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobFailed, JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.status.merge import View
from milepost_contracts.status.redis_keys import SHARDS, shard_of
from milepost_contracts.values import JobError
from milepost_tracker.adapters.redis.status_store import GRACE, RedisStatusStore

SHARD = shard_of(ID)
RETENTION = timedelta(days=7)
TOLERANCE = timedelta(seconds=30)


@pytest.fixture
def tracker(redis, keys):
    """Return a function that creates a tracker's store."""
    return lambda retention=RETENTION: RedisStatusStore(redis, keys, retention=retention, live_for=timedelta(days=200))


@pytest.fixture
async def store(tracker):
    """A tracker's store, whose shards are complete."""
    made = tracker()
    await made.checkpoints.begin_replay(range(SHARDS))
    assert await made.checkpoints.mark_complete(range(SHARDS))
    return made


def view(event):
    return {event.job.id: View(latest=event, history=(event,))}


def ended(*, created, finished, **changes):
    job = ENDED.model_copy(update={"created_at": created, "finished_at": finished, "tags": (), **changes})
    return JobSucceeded(job=job, time=finished)


async def test_the_sweep_deletes_a_finished_job_after_its_retention_and_keeps_a_live_one(tracker, redis, keys):
    """Its document and its index entries are deleted."""
    store = tracker(retention=timedelta(milliseconds=500))
    ended = ENDED.model_copy(update={"batch": "abc", "created_at": now(), "finished_at": now()})
    await store.apply(view(JobSucceeded(job=ended)) | view(JobStarted(job=RUNNING.model_copy(update={"id": "live"}))))
    shard = shard_of(ID)
    indexes = (
        keys.all_tenants(shard, "succeeded"),
        keys.dead(shard, tenant="default"),
        keys.batch(shard, "abc"),
        keys.batch(shard, "abc", "succeeded"),
        *(
            keys.index(shard, tenant="default", type_name=type_name, status=status)
            for type_name in (None, "digest-files")
            for status in (None, "succeeded")
        ),
    )
    assert [1, 0, 1, 1, 1, 1, 1, 1] == [await redis.zcard(name) for name in indexes]
    swept = 0
    while not swept:
        swept = await store.sweep()
    assert (1, 0, 1) == (swept, await redis.exists(keys.job(ID)), await redis.exists(keys.job("live")))
    assert [None] * 8 == [await redis.zscore(name, ID) for name in indexes]
    assert 0 == await store.sweep()


@pytest.mark.parametrize(
    "created, finished, expires",
    [
        (timedelta(days=-3), timedelta(days=-2), timedelta(days=5)),
        (timedelta(days=-3), timedelta(days=300), timedelta(days=7)),
        (timedelta(days=-3), timedelta(days=-300), timedelta(days=4)),
        (timedelta(minutes=1), timedelta(0), timedelta(days=7, minutes=1)),
    ],
    ids=["two days ago", "a clock that is ahead", "a clock that is behind", "a submitter's clock that is ahead"],
)
async def test_an_ended_job_is_kept_from_its_end_on(store, redis, keys, created, finished, expires):
    """Not from its projection on. A wrong clock can't move its end before its creation, nor into the future."""
    at = now()
    await store.apply(view(ended(created=at + created, finished=at + finished)))
    due = datetime.fromtimestamp(await redis.zscore(keys.expiry(SHARD), ID) / 1000, UTC)
    assert abs(due - at - expires) < TOLERANCE
    assert abs(timedelta(milliseconds=await redis.pttl(keys.job(ID))) - expires - GRACE) < TOLERANCE


async def test_a_job_past_its_retention_does_not_come_back_with_a_replay(store, reader, index, redis, keys):
    """The log holds events for longer than the retention: it drops whole segments. Its data are removed at once."""
    at = now() - timedelta(days=60)
    await store.apply(view(JobStarted(job=RUNNING.model_copy(update={"created_at": at}), time=at)), replayed=True)
    event = JobFailed(
        job=ended(created=at, finished=at, batch="abc", error=JobError(kind="dead_lettered", message="no")).job, time=at
    )
    await store.apply(view(event), replayed=True)
    fields = await redis.hkeys(keys.job(ID))
    assert not [name for name in fields if name in (b"state", b"hidden") or name.startswith(b"event:")]
    assert await reader.get(ID) is None
    assert await reader.snapshot(ID) is None
    assert () == tuple(await index.dead_letters(tenant="default", before=None, limit=9))
    assert {0} == set((await index.counts(tenant="default")).values())
    assert {0} == set((await index.counts(tenant="default", batch="abc")).values())
    assert [] == await store.jobs([ID])
    assert await redis.pttl(keys.job(ID)) <= GRACE.total_seconds() * 1000
    assert [None, None] == [await redis.zscore(key, ID) for key in (keys.expiry(SHARD), keys.deadline(SHARD))]


async def test_a_late_event_does_not_bring_back_a_job_past_its_retention(store, reader, index):
    """But a new run does."""
    at = now() - timedelta(days=60)
    await store.apply(view(ended(created=at, finished=at)))
    submitted = JobSubmitted(job=SUBMITTED.model_copy(update={"created_at": at}), time=at)
    await store.apply(view(submitted))
    assert await reader.get(ID) is None
    assert {0} == set((await index.counts(tenant="default")).values())
    await store.apply(view(JobSubmitted(job=submitted.job.model_copy(update={"run": 2}))))
    assert "queued" == (await reader.get(ID)).summary.status
    assert [ID] == [
        place.job_id
        for place, _ in await index.page(tenant="default", type_name=None, status=None, before=None, limit=9)
    ]
