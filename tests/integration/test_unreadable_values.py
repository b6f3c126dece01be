"""Values in Redis that this release can't read: they are skipped, and end no tracker."""

from datetime import timedelta

from samples import HEARTBEAT, ID, RUNNING, SUBMITTED

from milepost_contracts.messages.job_events import JobStarted, JobSubmitted
from milepost_contracts.messages.worker_events import ProcessorHeartbeat
from milepost_contracts.status.merge import merge
from milepost_tracker.adapters.redis.job_counts import RedisJobCounts
from milepost_tracker.adapters.redis.worker_store import RedisWorkerStore

DAY = timedelta(days=1)


async def test_an_unreadable_job_does_not_hide_the_others(store, redis, keys):
    """The tracker's duties read many jobs at once; an earlier release let a time pass that can't be read."""
    other = SUBMITTED.model_copy(update={"id": "other"})
    await store.apply(merge([JobStarted(job=RUNNING), JobSubmitted(job=other)]))
    state = await redis.hget(keys.job(ID), "state")
    await redis.hset(keys.job(ID), "state", state.replace(b'"started_at":"2026', b'"started_at":"9999'))
    assert ["other"] == [known.job.id for known in await store.jobs([ID, "other", "unknown"])]


async def test_unreadable_attempts_are_none(store, redis, keys):
    """The dead-letter handler then lists the attempts that the message knows of."""
    await redis.hset(keys.claim(ID), mapping={"run": 1, "attempts": '[{"number":"one"}]'})
    await redis.pexpire(keys.claim(ID), DAY)
    assert () == await store.attempts(RUNNING)


async def test_an_unreadable_heartbeat_does_not_hide_the_others(redis, keys):
    """A newer release may write other values."""
    await RedisWorkerStore(redis, keys).record(ProcessorHeartbeat(heartbeat=HEARTBEAT))
    await redis.zadd(keys.processors, {"newer": 2e9})
    await redis.set(keys.processor("newer"), b'{"instance":7}', px=DAY)
    assert [HEARTBEAT] == list(await RedisJobCounts(redis, keys).heartbeats())
