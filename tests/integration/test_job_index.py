"""Listings of jobs over all shards of a real Redis."""

from datetime import timedelta
from itertools import count

import pytest
from samples import ENDED, SUBMITTED

from milepost_contracts.messages.job_events import JobFailed, JobSubmitted, JobSucceeded
from milepost_contracts.states import Status
from milepost_contracts.status.document import DEAD_LETTERED
from milepost_contracts.status.merge import View
from milepost_contracts.status.redis_keys import SHARDS, shard_of
from milepost_contracts.values import JobError
from milepost_gateway.adapters.redis.job_index import RedisJobIndex
from milepost_tracker.adapters.redis.republish_store import RedisRepublishStore


def event(job_id, kind=JobSubmitted, job=SUBMITTED, *, minutes=0, **changes):
    created = job.created_at - timedelta(minutes=minutes)
    return kind(job=job.model_copy(update={"id": job_id, "created_at": created, **changes}))


async def apply(store, *events):
    await store.apply({event.job.id: View(latest=event) for event in events})


async def listed(index, limit, **filters):
    """Read all pages; return the ids in their order."""
    found, before = [], None
    while True:
        page = await index.page(
            **{"tenant": "default", "type_name": None, "status": None, **filters}, before=before, limit=limit
        )
        found += [place.job_id for place, _ in page]
        if len(page) < limit:
            return found
        before = page[-1][0]


@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_jobs_are_listed_by_creation_newest_first(store, index, limit):
    """Not by id: an id derived from an idempotency key begins with the day."""
    await apply(store, *(event(f"j{(number * 37) % 50:02d}", minutes=number) for number in range(50)))
    assert [f"j{(number * 37) % 50:02d}" for number in range(50)] == await listed(index, limit)


@pytest.mark.parametrize("limit", [1, 3])
async def test_jobs_created_at_the_same_time_are_all_listed(store, index, limit):
    """Even if all of them are in one shard."""
    shard = shard_of("j0")
    same = [name for name in (f"j{n}" for n in range(5_000)) if shard_of(name) == shard][:8]
    await apply(store, *(event(name) for name in same))
    assert sorted(same, reverse=True) == await listed(index, limit)


@pytest.mark.parametrize("limit", [1, 3, 20, 1_000])
async def test_a_shard_with_most_of_the_newest_jobs_is_read_again(store, index, limit):
    """A page first reads a few jobs of each shard; none is skipped for that."""
    shard = shard_of("j0")
    names = [f"j{n}" for n in range(9_000)]
    crowded = [name for name in names if shard_of(name) == shard][:30]
    spread = [name for name in names if shard_of(name) != shard][:30]
    order = [*crowded[:12], *(name for pair in zip(spread, crowded[12:], strict=False) for name in pair), *spread[18:]]
    await apply(store, *(event(name, minutes=at) for at, name in enumerate(order)))
    assert order == await listed(index, limit)


async def test_no_job_is_skipped_if_others_change_status_during_the_listing(store, index, monkeypatch):
    """The crowded shard has no more jobs when it is read again; another shard fills the page."""
    names = [f"j{n}" for n in range(5_000)]
    crowded = [name for name in names if shard_of(name) == shard_of("j0")][:12]
    other_shard = [name for name in names if shard_of(name) == shard_of("j1")][:8]
    await apply(store, *(event(name, minutes=at) for at, name in enumerate([*crowded, *other_shard])))
    ask_shards = RedisJobIndex._ask_shards

    async def finish_after_the_first_read(self, *arguments):
        answers = await ask_shards(self, *arguments)
        await apply(store, *(event(name, JobSucceeded, ENDED) for name in crowded))
        return answers

    monkeypatch.setattr(RedisJobIndex, "_ask_shards", finish_after_the_first_read)
    page = await index.page(tenant="default", type_name=None, status=Status.QUEUED, before=None, limit=6)
    assert other_shard[:6] == [place.job_id for place, _ in page]


async def test_listings_are_filtered_by_type_and_status(store, index):
    """A job that changes its status changes its index."""
    await apply(store, event("a"), event("b", type="other", minutes=1))
    await apply(store, event("a", JobSucceeded, ENDED))
    assert ["a", "b"] == await listed(index, 10)
    assert ["a"] == await listed(index, 10, status=Status.SUCCEEDED)
    assert ["b"] == await listed(index, 10, type_name="other")
    assert [] == await listed(index, 10, type_name="other", status=Status.SUCCEEDED)
    counted = await index.counts(tenant="default")
    assert (1, 1, 2) == (counted[Status.SUCCEEDED], counted[Status.QUEUED], sum(counted.values()))


async def test_dead_letters_are_listed_page_by_page(store, index):
    """Newest first, and only jobs that failed as `dead_lettered`."""
    names, error = [f"d{number}" for number in range(7)], JobError(kind=DEAD_LETTERED, message="too often")
    await apply(store, *(event(name, JobFailed, ENDED, minutes=n, error=error) for n, name in enumerate(names)))
    await apply(store, event("innocent"))
    found, before = [], None
    for _ in count():
        page = await index.dead_letters(tenant="default", before=before, limit=3)
        found += [place.job_id for place in page]
        if len(page) < 3:
            break
        before = page[-1]
    assert names == found


async def test_all_unfinished_jobs_are_read(store, redis, keys):
    """They are republished before the log deletes their events."""
    names = {f"j{number}" for number in range(300)}
    await apply(store, *(event(name) for name in names), event("ended", JobSucceeded, ENDED))
    unfinished = RedisRepublishStore(redis, keys, store, live_for=timedelta(days=30)).unfinished_jobs
    assert names == {known.job.id for shard in range(SHARDS) async for batch in unfinished(shard) for known in batch}
