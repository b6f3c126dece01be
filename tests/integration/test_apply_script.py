"""The merge law (law 4) on the Lua script in a real Redis, and what the script stores beside the views."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import count, product

import pytest
from hypothesis import given
from job_histories import LONG_RETENTION, deliveries, histories
from merge_suite import RELAXED, MergeLaw
from redis.asyncio import Redis
from samples import ID, RUNNING, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import CancelRequested, JobDeleted, JobStarted, JobSubmitted
from milepost_contracts.states import Status
from milepost_contracts.status import render
from milepost_contracts.status.merge import View, merge
from milepost_contracts.status.redis_keys import Keys, shard_of
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.errors import StoreUnavailable

FIELDS = ("version", "state", "cancel", "evidence")
STORED = ("sequence", "status", "terminal", "state", "hidden", "summary", "evidence", "cancel", "cancel_key", "deleted")
LIVE_FOR = timedelta(days=30)
NUMBERS = count()


def renamed(event, job_id):
    """Return the same event of another job."""
    if isinstance(event, CancelRequested):
        return event.model_copy(update={"request": event.request.model_copy(update={"job_id": job_id})})
    if isinstance(event, JobDeleted):
        return event.model_copy(update={"request": event.request.model_copy(update={"job_id": job_id})})
    return event.model_copy(update={"job": event.job.model_copy(update={"id": job_id})})


@pytest.fixture(scope="class")
def runner():
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="class")
def shared_store(runner, redis_url):
    """A store shared by all examples of a property test: each example uses a job of its own."""
    redis = Redis.from_url(redis_url)
    keys = Keys(namespace=f"law{id(runner)}")
    yield runner, redis, keys, RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=LIVE_FOR)

    async def clean():
        async for key in redis.scan_iter(match=f"{keys.namespace}:*", count=1000):
            assert await redis.pttl(key) > 0, f"{key.decode()} has no TTL"
            await redis.delete(key)
        await redis.aclose()

    runner.run(clean())


class TestTheLuaScript(MergeLaw):
    """Passes the same suite as the pure function."""

    @pytest.fixture(autouse=True)
    def _shared_store(self, shared_store):
        self.runner, self.redis, self.keys, self.store = shared_store

    def fold(self, batches):
        job_id = f"job{next(NUMBERS)}"
        shown = self.runner.run(self._fold(job_id, [[renamed(event, job_id) for event in batch] for batch in batches]))
        if shown is not None:
            for name in ("id", "links", "version"):
                del shown[name]
        return shown

    async def _fold(self, job_id, batches):
        for batch in batches:
            await self.store.apply(merge(batch))
        version, state, cancel, evidence = await self.redis.hmget(self.keys.job(job_id), *FIELDS)
        if state is None:
            return None
        return json.loads(
            render.assemble(
                int(version),
                state,
                cancel_requested=render.cancel_requested(cancel, evidence) if cancel else None,
            )
        )

    @RELAXED
    @given(histories(with_deletions=True))
    def test_the_script_agrees_with_the_pure_function(self, history):
        """Both implement the same merge law."""
        ((_, view),) = merge(history).items()
        expected = None
        if view.shown is not None:
            expected = json.loads(
                render.render_document(view.shown, cancel=view.cancel, version=0, retention=LONG_RETENTION)
            )
            for name in ("id", "links", "version"):
                del expected[name]
        assert expected == self.fold([[event] for event in history])

    @RELAXED
    @given(deliveries())
    def test_trackers_that_share_the_events_write_the_same_bytes(self, delivered):
        """At once and in any order, as one tracker does: an equal sequence means equal bytes."""
        history, shuffled = delivered
        job_id = f"job{next(NUMBERS)}"
        halves = [[renamed(event, job_id) for event in shuffled[part::2]] for part in (0, 1)]
        together = self.runner.run(self._stored(job_id, self.keys, halves))
        alone = Keys(namespace=f"{self.keys.namespace}:alone")
        assert together == self.runner.run(self._stored(job_id, alone, [[renamed(event, job_id) for event in history]]))

    async def _stored(self, job_id, keys, shares):
        """Apply each share of the events with a tracker of its own, and return what is stored."""

        async def apply_share(events):
            store = RedisStatusStore(self.redis, keys, retention=LONG_RETENTION, live_for=LIVE_FOR)
            for event in events:
                await store.apply(merge([event]))

        await asyncio.gather(*map(apply_share, shares))
        return await self.redis.hmget(keys.job(job_id), *STORED)

    @RELAXED
    @given(histories(with_deletions=True))
    def test_every_job_is_in_exactly_the_indexes_of_its_state(self, history):
        """In whatever order its events came: a listing by status shows no job twice and misses none."""
        job_id = f"job{next(NUMBERS)}"
        self.runner.run(self._fold(job_id, [[renamed(event, job_id)] for event in history]))
        ((_, view),) = merge(history).items()
        expected = set()
        if view.shown is not None:
            status = str(view.shown.status)
            own = {"*:*", "count:*", f"*:{status}", f"count:{status}"}
            expected = {f"*:*:{status}", *(f"default:{index}" for index in own)}
        assert expected == self.runner.run(self._indexes_of(job_id))

    async def _indexes_of(self, job_id):
        prefix = self.keys.index_prefix(shard_of(job_id))
        found = set()
        for tenant, kind, status in product(("*", "default"), ("*", "count"), ("*", *Status)):
            index = f"{tenant}:{kind}:{status}"
            if await self.redis.zscore(f"{prefix}{index}", job_id) is not None:
                found.add(index)
        return found

    @RELAXED
    @given(histories())
    def test_the_version_changes_only_with_the_document(self, history):
        """Applying the same events again keeps the version, so a client's ETag stays valid."""
        job_id = f"job{next(NUMBERS)}"
        batches = [[renamed(event, job_id)] for event in history]
        self.runner.run(self._fold(job_id, batches))
        before = self.runner.run(self.redis.hget(self.keys.job(job_id), "version"))
        self.runner.run(self._fold(job_id, batches))
        assert before == self.runner.run(self.redis.hget(self.keys.job(job_id), "version"))


@pytest.fixture
def store(redis, keys):
    return RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=LIVE_FOR)


def view(event):
    return {event.job.id: View(latest=event)}


async def test_a_change_is_published_to_the_shards_channel(store, redis, keys):
    """With id, version and status; an event that changes nothing is not published."""
    async with redis.pubsub() as subscriber:
        await subscriber.subscribe(keys.changes(shard_of(ID)))
        for event in (JobSubmitted(job=SUBMITTED), JobStarted(job=RUNNING), JobSubmitted(job=SUBMITTED)):
            await store.apply(view(event))
        published = []
        while message := await subscriber.get_message(timeout=1.0):
            if message["type"] == "message":
                published.append(message["data"].decode().split(" "))
        assert [(ID, "queued"), (ID, "running")] == [(job_id, status) for job_id, _, status in published]
        assert 0 < int(published[0][1]) < int(published[1][1]), "versions grow"


async def test_a_failed_batch_changes_nothing_in_its_shard(store, redis, keys):
    """Lua does not roll back, so the script reads everything before its first write."""
    twin = next(f"twin{n}" for n in count() if shard_of(f"twin{n}") == shard_of(ID))
    await redis.set(keys.job(twin), "no hash", ex=60)
    event = JobSubmitted(job=SUBMITTED)
    with pytest.raises(StoreUnavailable):
        await store.apply(view(event) | view(renamed(event, twin)))
    assert not await redis.exists(keys.job(ID))
    assert 0 == await redis.zcard(keys.index(shard_of(ID), tenant="default"))


@pytest.mark.parametrize(
    "age, start_within, waited",
    [
        (timedelta(0), timedelta(seconds=1), timedelta(seconds=6)),
        (timedelta(0), timedelta(hours=3), timedelta(hours=3, seconds=5)),
        (timedelta(hours=2), timedelta(hours=3), timedelta(hours=2, seconds=5)),
        (timedelta(days=2), timedelta(hours=3), timedelta(seconds=30)),
        (timedelta(days=2), timedelta(seconds=1), timedelta(seconds=6)),
    ],
)
async def test_a_waiting_jobs_deadline_is_derived_from_start_within(store, redis, keys, age, start_within, waited):
    """Counted from the event's arrival; the delay of a late event is subtracted, as far as clocks can be trusted."""
    before = now()
    at = before - age
    job = SUBMITTED.model_copy(update={"created_at": at, "start_within": start_within})
    await store.apply(view(JobSubmitted(job=job, time=at)))
    due = datetime.fromtimestamp(await redis.zscore(keys.deadline(shard_of(ID)), ID) / 1000, UTC)
    assert before - timedelta(milliseconds=10) <= due - waited <= now()


async def test_one_batch_can_write_to_every_shard(store, redis, keys):
    """With one script call per shard, in one pipeline."""
    views = {f"job{n}": View(latest=renamed(JobSubmitted(job=SUBMITTED), f"job{n}")) for n in range(600)}
    assert 600 == (await store.apply(views)).changed
    assert 0 == (await store.apply(views)).changed
    sizes = [await redis.zcard(keys.index(shard, tenant="default", status="queued")) for shard in range(256)]
    assert 600 == sum(sizes)


async def test_an_unavailable_redis_raises_store_unavailable(keys):
    """The projector then keeps the batch and retries."""
    async with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5) as unreachable:
        store = RedisStatusStore(unreachable, keys, retention=LONG_RETENTION, live_for=LIVE_FOR)
        with pytest.raises(StoreUnavailable):
            await store.apply(view(JobSubmitted(job=SUBMITTED)))
        with pytest.raises(StoreUnavailable):
            await store.sweep()


async def test_outdated_returns_the_jobs_whose_view_is_behind_the_log(store):
    """By comparing sequences, so an audit writes nothing twice."""
    started = JobStarted(job=RUNNING)
    await store.apply(view(started))
    submitted, later = JobSubmitted(job=SUBMITTED).sequence, started.sequence + "1"
    for latest, missing in ((submitted, set()), (started.sequence, set()), (later, {ID})):
        assert missing == await store.outdated({ID: latest})
    assert {"unknown"} == await store.outdated({"unknown": submitted, ID: submitted})
