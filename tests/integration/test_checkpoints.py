"""Checkpoints: a loss of data in Redis is detected, reported to readers, and restored."""

from datetime import timedelta

import pytest
from job_histories import LONG_RETENTION
from samples import ENDED, ID, RUNNING, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    CancelRequest,
    CancelRequested,
    JobProgressed,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.status.merge import View, merge
from milepost_contracts.status.redis_keys import SHARDS, shard_of
from milepost_gateway.errors import NotKnownYet
from milepost_tracker.adapters.redis.status_store import RedisStatusStore

SHARD = shard_of(ID)
LIVE_FOR = timedelta(days=30)
ALL = range(SHARDS)


async def restore(store, shards=ALL):
    """Mark shards as replayed, without a replay."""
    await store.checkpoints.begin_replay(shards)
    assert await store.checkpoints.mark_complete(shards)


@pytest.fixture
def tracker(redis, keys):
    """Return a function that creates a tracker's store."""
    return lambda: RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=LIVE_FOR)


def view(event):
    return {event.job.id: View(latest=event)}


async def delete(redis, keys, *names):
    for name in names or ("job", "checkpoint", "index", "expiry", "deadline", "dead", "claim"):
        async for key in redis.scan_iter(match=f"{keys.namespace}:{name}*"):
            await redis.delete(key)


async def test_an_empty_redis_is_complete_once_the_log_was_replayed(tracker, reader):
    """Before that, reads are refused: a job that was accepted long ago may be missing."""
    store = tracker()
    assert set(ALL) == set(await store.checkpoints.lost_shards())
    with pytest.raises(NotKnownYet):
        await reader.get(ID)
    await restore(store)
    assert {} == await store.checkpoints.lost_shards()
    assert await reader.get(ID) is None


async def test_a_flush_is_detected_and_reads_are_refused_until_it_is_restored(tracker, reader, redis, keys):
    """The tracker finds its own checkpoints missing."""
    store = tracker()
    await restore(store)
    await store.apply(view(JobSubmitted(job=SUBMITTED)))
    assert (await reader.get(ID)).version > 0
    await delete(redis, keys)
    assert SHARD in await store.checkpoints.lost_shards()
    with pytest.raises(NotKnownYet):
        await reader.get(ID)
    await store.apply(view(JobSubmitted(job=SUBMITTED)), replayed=True)
    await restore(store)
    assert {} == await store.checkpoints.lost_shards()
    assert (await reader.get(ID)).version > 0


async def test_a_partial_loss_is_detected_although_another_tracker_keeps_writing(tracker, redis, keys):
    """Each tracker has its own watermark; another tracker's watermark does not prove that its writes are present."""
    mine, other = tracker(), tracker()
    await restore(mine)
    await mine.apply(view(JobSubmitted(job=SUBMITTED)))
    saved = await redis.hgetall(keys.checkpoint(SHARD))
    await mine.apply(view(JobStarted(job=RUNNING)))
    await redis.delete(keys.checkpoint(SHARD))  # as on a replica that lagged
    await redis.hset(keys.checkpoint(SHARD), mapping=saved)
    await redis.pexpire(keys.checkpoint(SHARD), 60_000)
    await other.apply(view(JobSubmitted(job=SUBMITTED)))
    lost = await mine.checkpoints.lost_shards()
    assert [SHARD] == list(lost)
    assert lost[SHARD] is not None, "the remaining checkpoint says from when to replay"
    await restore(other, [SHARD])
    assert {} == await mine.checkpoints.lost_shards(), "the other tracker has restored it"


async def test_a_tracker_that_writes_finds_that_its_earlier_writes_are_missing(tracker, reader, redis, keys):
    """With its write, before its next check: until the shard is restored, nobody may read it."""
    store = tracker()
    await restore(store)
    await store.apply(view(JobSubmitted(job=SUBMITTED)))
    saved = await redis.hgetall(keys.checkpoint(SHARD))
    await store.apply(view(JobStarted(job=RUNNING)))
    await redis.hset(keys.checkpoint(SHARD), mapping=saved)  # as on a replica that lagged
    await store.apply(view(JobProgressed(job=RUNNING.model_copy(update={"step": 8}))))
    with pytest.raises(NotKnownYet):
        await reader.get(ID)
    assert [SHARD] == list(await store.checkpoints.lost_shards())


async def test_a_replay_by_one_tracker_counts_for_a_tracker_that_has_not_checked_yet(tracker, redis, keys):
    """Its next write finds its watermark gone and its earlier writes restored: no second replay is needed."""
    mine, other = tracker(), tracker()
    await restore(mine)
    await mine.apply(view(JobSubmitted(job=SUBMITTED)))
    await delete(redis, keys)
    assert set(ALL) == set(await other.checkpoints.lost_shards())
    await restore(other)
    await mine.apply(view(JobStarted(job=RUNNING)))
    assert {} == await other.checkpoints.lost_shards() == await mine.checkpoints.lost_shards()
    assert await mine.checkpoints.confirm_complete()


async def another_server(redis, keys, *shards):
    """Leave the marks as on a promoted replica: another server was marked as complete."""
    for shard in shards:
        await redis.hset(keys.checkpoint(shard), "complete", "0" * 40)


async def test_a_promoted_or_restarted_server_is_trusted_once_all_trackers_have_checked_it(
    tracker, reader, index, redis, keys, monkeypatch
):
    """A replica that lagged has the mark and lacks writes; each tracker knows what it wrote, and can object."""
    monkeypatch.setattr("milepost_tracker.adapters.redis.checkpoints.OBJECTION_PERIOD", timedelta(minutes=1))
    store = tracker()
    await restore(store)
    await store.apply(view(JobSubmitted(job=SUBMITTED)))
    await another_server(redis, keys, *ALL)
    for read in (
        reader.get(ID),
        reader.snapshot(ID),
        index.page(tenant="default", type_name=None, status=None, before=None, limit=1),
    ):
        with pytest.raises(NotKnownYet):
            await read
    assert {} == await store.checkpoints.lost_shards()
    assert not await store.checkpoints.confirm_complete(), "the other trackers can still object"
    monkeypatch.setattr("milepost_tracker.adapters.redis.checkpoints.OBJECTION_PERIOD", timedelta(0))
    assert await store.checkpoints.confirm_complete()
    assert (await reader.get(ID)).version > 0
    assert 1 == len(await index.page(tenant="default", type_name=None, status=None, before=None, limit=1))


async def test_a_tracker_that_has_not_checked_the_new_server_is_waited_for(tracker, redis, keys, monkeypatch):
    """It may be the only one that knows what is missing. A tracker that left or died is not waited for."""
    monkeypatch.setattr("milepost_tracker.adapters.redis.checkpoints.OBJECTION_PERIOD", timedelta(0))
    mine, other = tracker(), tracker()
    await restore(mine)
    for one in (mine, other):
        await one.checkpoints.lost_shards()
    await another_server(redis, keys, *ALL)
    old = (await redis.hget(keys.trackers, other.checkpoints.owner)).split()[1].decode()
    await redis.hset(keys.trackers, other.checkpoints.owner, f"{'0' * 40} {old}")
    assert {} == await mine.checkpoints.lost_shards()
    assert not await mine.checkpoints.confirm_complete()
    await other.checkpoints.lost_shards()
    await mine.checkpoints.lost_shards()
    assert await mine.checkpoints.confirm_complete()

    await another_server(redis, keys, *ALL)
    await redis.hset(keys.trackers, other.checkpoints.owner, f"{'0' * 40} {old}")
    await other.checkpoints.leave()
    await mine.checkpoints.lost_shards()
    assert await mine.checkpoints.confirm_complete()
    await redis.hset(keys.trackers, "dead", f"{'0' * 40} {int(old) - 20_000}")
    await another_server(redis, keys, *ALL)
    await mine.checkpoints.lost_shards()
    assert await mine.checkpoints.confirm_complete(), "it has been silent for too long"


async def test_a_shard_is_not_confirmed_complete_if_another_tracker_has_found_a_loss(tracker, redis, keys, monkeypatch):
    """Whichever tracker checks first."""
    monkeypatch.setattr("milepost_tracker.adapters.redis.checkpoints.OBJECTION_PERIOD", timedelta(0))
    writer, other = tracker(), tracker()
    await restore(writer)
    saved = await redis.hgetall(keys.checkpoint(SHARD))
    await writer.apply(view(JobSubmitted(job=SUBMITTED)))
    await redis.delete(keys.checkpoint(SHARD))
    await redis.hset(keys.checkpoint(SHARD), mapping=saved)
    await redis.pexpire(keys.checkpoint(SHARD), 60_000)
    await another_server(redis, keys, SHARD)
    assert {} == await other.checkpoints.lost_shards()
    assert [SHARD] == list(await writer.checkpoints.lost_shards())
    assert not await other.checkpoints.confirm_complete()


async def test_live_events_are_applied_while_a_shard_is_incomplete(tracker, redis, keys):
    """They do not mark the shard as complete."""
    store = tracker()
    assert 1 == (await store.apply(view(JobSubmitted(job=SUBMITTED)))).changed
    assert SHARD in await store.checkpoints.lost_shards()


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=1)], ids=["same clock", "submitter's clock is ahead"])
async def test_a_version_never_goes_back(tracker, reader, redis, keys, ahead):
    """Not even after a loss in Redis: a version is a time by the clock of Redis, not a count."""
    store, created = tracker(), {"created_at": now() + ahead}
    submitted, running, ended = (job.model_copy(update=created) for job in (SUBMITTED, RUNNING, ENDED))
    await restore(store)
    for event in (JobSubmitted(job=submitted), JobStarted(job=running), JobProgressed(job=running)):
        await store.apply(view(event))
    before = (await reader.get(ID)).version
    await delete(redis, keys)
    await store.checkpoints.lost_shards()
    await store.apply(view(JobStarted(job=running)), replayed=True)
    await restore(store)
    assert (again := (await reader.get(ID)).version) > before
    await store.apply(view(JobSucceeded(job=ended)))
    assert (await reader.get(ID)).version > again


async def test_a_shard_that_is_lost_during_its_replay_is_not_marked_complete(tracker, redis, keys):
    """What was replayed before the loss is gone as well."""
    store = tracker()
    await store.checkpoints.begin_replay(ALL)
    await redis.delete(keys.checkpoint(SHARD))
    assert not await store.checkpoints.mark_complete(ALL)
    assert [SHARD] == list(await store.checkpoints.lost_shards())


async def test_one_tracker_replays_at_a_time(tracker):
    """It can renew its hold during the replay."""
    one, other = tracker(), tracker()
    assert await one.checkpoints.hold_replay()
    assert not await other.checkpoints.hold_replay()
    assert await one.checkpoints.hold_replay()
    await one.checkpoints.end_replay()
    assert await other.checkpoints.hold_replay()
    await other.checkpoints.end_replay()


REQUEST = CancelRequested(
    request=CancelRequest(job_id=ID, type=SUBMITTED.type, queue="default", requested_at=SUBMITTED.created_at)
)


@pytest.mark.parametrize(
    "events, claim, orphan",
    [
        ([JobSubmitted(job=SUBMITTED)], {}, True),
        ([JobSubmitted(job=SUBMITTED)], {"run": 1, "delivery": 1}, False),
        ([JobStarted(job=RUNNING)], {"run": 1, "delivery": 2}, False),
        (
            [JobRetrying(job=RUNNING.model_copy(update={"run_at": SUBMITTED.created_at}))],
            {"run": 1, "delivery": 2},
            True,
        ),
        (
            [JobRetrying(job=RUNNING.model_copy(update={"run_at": SUBMITTED.created_at}))],
            {"run": 1, "delivery": 3},
            False,
        ),
        ([JobStarted(job=RUNNING)], {}, False),
        ([JobSucceeded(job=ENDED)], {"run": 1, "delivery": 2}, False),
        ([JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2}))], {}, False),
    ],
    ids=["queued", "claimed", "running", "retrying", "claimed again", "claim lost", "ended", "another run"],
)
async def test_the_tracker_concludes_a_cancel_only_if_no_processor_has_the_job(
    tracker, redis, keys, events, claim, orphan
):
    """Atomically with the claim: either the processor sees the request, or the tracker sees the claim."""
    store = tracker()
    await restore(store)
    if claim:
        await redis.hset(keys.claim(ID), mapping=claim)
        await redis.expire(keys.claim(ID), 60)
    await store.apply(merge(events))
    for _ in range(2):
        applied = await store.apply(merge([REQUEST]))
        assert ((ID,) if orphan else ()) == applied.orphans, "and again, if the first answer was lost"
