"""Watermarks: what Redis has forgotten is noticed, told of, and brought back."""

from datetime import timedelta

import pytest
from samples import ENDED, ID, RUNNING, SUBMITTED

from milepost_contracts.events import (
    CancelRequest,
    CancelRequested,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.keys import SHARDS, shard_of
from milepost_contracts.view import View, merge
from milepost_gateway.errors import NotKnownYet
from milepost_tracker.store import RedisStatusStore

SHARD = shard_of(ID)
LIVE_FOR = timedelta(days=30)
ALL = range(SHARDS)


async def heal(store, shards=ALL):
    """What a replay does, but for the replay."""
    await store.watermarks.begin_replay(shards)
    assert await store.watermarks.mark(shards)


@pytest.fixture
def tracker(redis, keys):
    """Make a tracker's store."""
    return lambda: RedisStatusStore(redis, keys, retention=timedelta(days=7), live_for=LIVE_FOR)


def view(event):
    return {event.job.id: View(latest=event)}


async def forget(redis, keys, *names):
    for name in names or ("job", "mark", "index", "expiry", "deadline", "dead", "claim"):
        async for key in redis.scan_iter(match=f"{keys.namespace}:{name}*"):
            await redis.delete(key)


async def test_an_empty_redis_is_whole_once_the_log_was_read(tracker, reader):
    """Before that, nothing is told: a job that was accepted long ago may only be missing here."""
    store = tracker()
    assert set(ALL) == set(await store.watermarks.lost_shards())
    with pytest.raises(NotKnownYet):
        await reader.get(ID)
    await heal(store)
    assert {} == await store.watermarks.lost_shards()
    assert await reader.get(ID) is None


async def test_what_was_forgotten_is_noticed_by_who_wrote_it(tracker, reader, redis, keys):
    """All of it, after a flush; and readers are told nothing until it is back."""
    store = tracker()
    await heal(store)
    await store.apply(view(JobSubmitted(job=SUBMITTED)))
    assert (await reader.get(ID)).version > 0
    await forget(redis, keys)
    assert SHARD in await store.watermarks.lost_shards()
    with pytest.raises(NotKnownYet):
        await reader.get(ID)
    await store.apply(view(JobSubmitted(job=SUBMITTED)), replayed=True)
    await heal(store)
    assert {} == await store.watermarks.lost_shards()
    assert (await reader.get(ID)).version > 0


async def test_a_partial_loss_is_noticed_although_another_tracker_writes_on(tracker, redis, keys):
    """Each has a watermark of its own; the other's are no proof that ours is there."""
    mine, other = tracker(), tracker()
    await heal(mine)
    await mine.apply(view(JobSubmitted(job=SUBMITTED)))
    saved = await redis.hgetall(keys.mark(SHARD))
    await mine.apply(view(JobStarted(job=RUNNING)))
    await redis.delete(keys.mark(SHARD))  # as a replica that lagged would have it
    await redis.hset(keys.mark(SHARD), mapping=saved)
    await redis.pexpire(keys.mark(SHARD), 60_000)
    await other.apply(view(JobSubmitted(job=SUBMITTED)))
    lost = await mine.watermarks.lost_shards()
    assert [SHARD] == list(lost)
    assert lost[SHARD] is not None, "what is left says from when on"
    await heal(other, [SHARD])
    assert {} == await mine.watermarks.lost_shards(), "the other one has brought it back"


async def test_a_replay_holds_for_a_tracker_that_has_not_looked_yet(tracker, redis, keys):
    """Its next write finds its own watermark gone, and what it wrote brought back: there is nothing to replay again."""
    mine, other = tracker(), tracker()
    await heal(mine)
    await mine.apply(view(JobSubmitted(job=SUBMITTED)))
    await forget(redis, keys)
    assert set(ALL) == set(await other.watermarks.lost_shards())
    await heal(other)
    await mine.apply(view(JobStarted(job=RUNNING)))
    assert {} == await other.watermarks.lost_shards() == await mine.watermarks.lost_shards()
    assert await mine.watermarks.vouch()


async def another_server(redis, keys, *shards):
    """Leave the marks as a replica that was promoted has them: another server said that they are whole."""
    for shard in shards:
        await redis.hset(keys.mark(shard), "whole", "0" * 40)


async def test_a_server_that_was_promoted_or_restarted_is_trusted_once_the_trackers_have_looked(
    tracker, reader, redis, keys, monkeypatch
):
    """A replica that lagged says that it is whole, and is not; each tracker knows what it wrote, and may say so."""
    monkeypatch.setattr("milepost_tracker.watermarks.VOUCH_AFTER", timedelta(minutes=1))
    store = tracker()
    await heal(store)
    await store.apply(view(JobSubmitted(job=SUBMITTED)))
    await another_server(redis, keys, *ALL)
    for read in (
        reader.get(ID),
        reader.snapshot(ID),
        reader.page(tenant="default", type_name=None, status=None, before=None, limit=1),
    ):
        with pytest.raises(NotKnownYet):
            await read
    assert {} == await store.watermarks.lost_shards()
    assert not await store.watermarks.vouch(), "the others have not had time to object"
    monkeypatch.setattr("milepost_tracker.watermarks.VOUCH_AFTER", timedelta(0))
    assert await store.watermarks.vouch()
    assert (await reader.get(ID)).version > 0
    assert 1 == len(await reader.page(tenant="default", type_name=None, status=None, before=None, limit=1))


async def test_a_tracker_that_has_not_looked_at_the_new_server_is_waited_for(tracker, redis, keys, monkeypatch):
    """It may sleep until Redis is back, and be the only one who knows what is missing; one that is gone is not."""
    monkeypatch.setattr("milepost_tracker.watermarks.VOUCH_AFTER", timedelta(0))
    mine, other = tracker(), tracker()
    await heal(mine)
    for one in (mine, other):
        await one.watermarks.lost_shards()
    await another_server(redis, keys, *ALL)
    old = (await redis.hget(keys.lookers, other.watermarks.owner)).split()[1].decode()
    await redis.hset(keys.lookers, other.watermarks.owner, f"{'0' * 40} {old}")
    assert {} == await mine.watermarks.lost_shards()
    assert not await mine.watermarks.vouch()
    await other.watermarks.lost_shards()
    await mine.watermarks.lost_shards()
    assert await mine.watermarks.vouch()

    await another_server(redis, keys, *ALL)
    await redis.hset(keys.lookers, other.watermarks.owner, f"{'0' * 40} {old}")
    await other.watermarks.leave()
    await mine.watermarks.lost_shards()
    assert await mine.watermarks.vouch()
    await redis.hset(keys.lookers, "dead", f"{'0' * 40} {int(old) - 20_000}")
    await another_server(redis, keys, *ALL)
    await mine.watermarks.lost_shards()
    assert await mine.watermarks.vouch(), "it has not spoken for long"


async def test_nobody_vouches_for_a_shard_that_another_tracker_knows_to_lack_something(
    tracker, redis, keys, monkeypatch
):
    """Whoever looks first."""
    monkeypatch.setattr("milepost_tracker.watermarks.VOUCH_AFTER", timedelta(0))
    knows, other = tracker(), tracker()
    await heal(knows)
    saved = await redis.hgetall(keys.mark(SHARD))
    await knows.apply(view(JobSubmitted(job=SUBMITTED)))
    await redis.delete(keys.mark(SHARD))
    await redis.hset(keys.mark(SHARD), mapping=saved)
    await redis.pexpire(keys.mark(SHARD), 60_000)
    await another_server(redis, keys, SHARD)
    assert {} == await other.watermarks.lost_shards()
    assert [SHARD] == list(await knows.watermarks.lost_shards())
    assert not await other.watermarks.vouch()


async def test_live_events_go_on_while_a_shard_is_being_healed(tracker, redis, keys):
    """They are applied, and claim no wholeness."""
    store = tracker()
    assert 1 == (await store.apply(view(JobSubmitted(job=SUBMITTED)))).changed
    assert SHARD in await store.watermarks.lost_shards()


async def test_a_version_never_goes_back(tracker, reader, redis, keys):
    """Whatever Redis has forgotten: it is a time, not a count."""
    store = tracker()
    await heal(store)
    for event in (JobSubmitted(job=SUBMITTED), JobStarted(job=RUNNING), JobSucceeded(job=ENDED)):
        await store.apply(view(event))
    before = (await reader.get(ID)).version
    await forget(redis, keys)
    await store.watermarks.lost_shards()
    await store.apply(view(JobSucceeded(job=ENDED)), replayed=True)
    await heal(store)
    assert (await reader.get(ID)).version > before


async def test_a_shard_that_forgets_its_replay_is_not_whole(tracker, redis, keys):
    """What was replayed before is gone as well."""
    store = tracker()
    await store.watermarks.begin_replay(ALL)
    await redis.delete(keys.mark(SHARD))
    assert not await store.watermarks.mark(ALL)
    assert [SHARD] == list(await store.watermarks.lost_shards())


async def test_one_tracker_at_a_time_replays(tracker):
    """And it may ask again while it does."""
    one, other = tracker(), tracker()
    assert await one.watermarks.hold_replay()
    assert not await other.watermarks.hold_replay()
    assert await one.watermarks.hold_replay()
    await one.watermarks.end_replay()
    assert await other.watermarks.hold_replay()
    await other.watermarks.end_replay()


REQUEST = CancelRequested(
    request=CancelRequest(job_id=ID, type=SUBMITTED.type, queue="default", requested_at=SUBMITTED.created_at)
)


@pytest.mark.parametrize(
    "events, claim, orphan",
    [
        ([JobSubmitted(job=SUBMITTED)], {}, True),
        ([JobSubmitted(job=SUBMITTED)], {"run": 1, "turn": 1}, False),
        ([JobStarted(job=RUNNING)], {"run": 1, "turn": 2}, False),
        ([JobRetrying(job=RUNNING.model_copy(update={"run_at": SUBMITTED.created_at}))], {"run": 1, "turn": 2}, True),
        ([JobRetrying(job=RUNNING.model_copy(update={"run_at": SUBMITTED.created_at}))], {"run": 1, "turn": 3}, False),
        ([JobSucceeded(job=ENDED)], {"run": 1, "turn": 2}, False),
        ([JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2}))], {}, False),
    ],
    ids=["queued", "claimed", "running", "retrying", "taken up again", "ended", "another run"],
)
async def test_a_cancel_is_the_trackers_to_conclude_only_if_no_processor_has_the_job(
    tracker, redis, keys, events, claim, orphan
):
    """In one step with the claim: either the processor sees the request, or the tracker sees the claim."""
    store = tracker()
    await heal(store)
    if claim:
        await redis.hset(keys.claim(ID), mapping=claim)
        await redis.expire(keys.claim(ID), 60)
    await store.apply(merge(events))
    for _ in range(2):
        applied = await store.apply(merge([REQUEST]))
        assert ((ID,) if orphan else ()) == applied.orphans, "and again, should the first answer have been lost"
