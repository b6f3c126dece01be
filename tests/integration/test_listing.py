"""Listings over all shards of a real Redis."""

from datetime import timedelta
from itertools import count

import pytest
from samples import ENDED, SUBMITTED

from milepost_contracts.document import GIVEN_UP
from milepost_contracts.events import JobFailed, JobSubmitted, JobSucceeded
from milepost_contracts.keys import SHARDS, shard_of
from milepost_contracts.states import Status
from milepost_contracts.values import JobError
from milepost_contracts.view import View
from milepost_gateway.listing import Listing


def event(job_id, kind=JobSubmitted, job=SUBMITTED, *, minutes=0, **changes):
    created = job.created_at - timedelta(minutes=minutes)
    return kind(job=job.model_copy(update={"id": job_id, "created_at": created, **changes}))


async def apply(store, *events):
    await store.apply({event.job.id: View(latest=event) for event in events})


async def listed(reader, limit, **which):
    """Walk all pages."""
    found, before = [], None
    while True:
        page = await reader.page(
            **{"tenant": "default", "type_name": None, "status": None, **which}, before=before, limit=limit
        )
        found += [place.job_id for place, _ in page]
        if len(page) < limit:
            return found
        before = page[-1][0]


@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_jobs_are_listed_in_the_order_of_their_creation(store, reader, limit):
    """Not of their ids: those that follow from a key begin with the day."""
    await apply(store, *(event(f"j{(number * 37) % 50:02d}", minutes=number) for number in range(50)))
    assert [f"j{(number * 37) % 50:02d}" for number in range(50)] == await listed(reader, limit)


@pytest.mark.parametrize("limit", [1, 3])
async def test_jobs_of_the_same_moment_are_all_listed(store, reader, limit):
    """Of one shard, too."""
    shard = shard_of("j0")
    same = [name for name in (f"j{n}" for n in range(5_000)) if shard_of(name) == shard][:8]
    await apply(store, *(event(name) for name in same))
    assert sorted(same, reverse=True) == await listed(reader, limit)


@pytest.mark.parametrize("limit", [1, 3, 20, 1_000])
async def test_a_shard_with_more_of_the_newest_than_others_is_asked_again(store, reader, limit):
    """Pages begin with few jobs of each shard; none is passed over for that."""
    shard = shard_of("j0")
    names = [f"j{n}" for n in range(9_000)]
    crowded = [name for name in names if shard_of(name) == shard][:30]
    spread = [name for name in names if shard_of(name) != shard][:30]
    order = [*crowded[:12], *(name for pair in zip(spread, crowded[12:], strict=False) for name in pair), *spread[18:]]
    await apply(store, *(event(name, minutes=at) for at, name in enumerate(order)))
    assert order == await listed(reader, limit)


async def test_a_job_is_listed_though_others_leave_while_they_are_asked_for(store, reader, monkeypatch):
    """The crowded shard is asked again, and has nothing any more: another one has more than it was asked for."""
    names = [f"j{n}" for n in range(5_000)]
    crowded = [name for name in names if shard_of(name) == shard_of("j0")][:12]
    next_to_it = [name for name in names if shard_of(name) == shard_of("j1")][:8]
    await apply(store, *(event(name, minutes=at) for at, name in enumerate([*crowded, *next_to_it])))
    ask = Listing.ask_shards

    async def leave_after_the_first_question(self, *question):
        answers = await ask(self, *question)
        await apply(store, *(event(name, JobSucceeded, ENDED) for name in crowded))
        return answers

    monkeypatch.setattr(Listing, "ask_shards", leave_after_the_first_question)
    page = await reader.page(tenant="default", type_name=None, status=Status.QUEUED, before=None, limit=6)
    assert next_to_it[:6] == [place.job_id for place, _ in page]


async def test_a_listing_is_of_a_type_and_a_state(store, reader):
    """And a job changes its place with its state."""
    await apply(store, event("a"), event("b", type="other", minutes=1))
    await apply(store, event("a", JobSucceeded, ENDED))
    assert ["a", "b"] == await listed(reader, 10)
    assert ["a"] == await listed(reader, 10, status=Status.SUCCEEDED)
    assert ["b"] == await listed(reader, 10, type_name="other")
    assert [] == await listed(reader, 10, type_name="other", status=Status.SUCCEEDED)
    counted = await reader.counts(tenant="default")
    assert (1, 1, 2) == (counted[Status.SUCCEEDED], counted[Status.QUEUED], sum(counted.values()))


async def test_dead_letters_are_listed_page_by_page(store, reader):
    """Newest first, and only what was given up."""
    names, error = [f"d{number}" for number in range(7)], JobError(kind=GIVEN_UP, message="too often")
    await apply(store, *(event(name, JobFailed, ENDED, minutes=n, error=error) for n, name in enumerate(names)))
    await apply(store, event("innocent"))
    found, before = [], None
    for _ in count():
        page = await reader.dead_letters(tenant="default", before=before, limit=3)
        found += [snapshot.job.id for _, snapshot in page]
        if len(page) < 3:
            break
        before = page[-1][0]
    assert names == found


async def test_open_jobs_are_all_told_of(store):
    """For who says again what the log is about to forget."""
    names = {f"j{number}" for number in range(300)}
    await apply(store, *(event(name) for name in names), event("ended", JobSucceeded, ENDED))
    told = [known.job.id for shard in range(SHARDS) async for some in store.open_jobs(shard) for known in some]
    assert names == set(told)
