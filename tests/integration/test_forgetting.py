"""A job that is to be forgotten, in a real Redis."""

import pytest
from samples import ENDED, ID, SUBMITTED

from milepost_contracts.events import Forgotten, JobForgotten, JobSubmitted, JobSucceeded
from milepost_contracts.keys import shard_of
from milepost_contracts.view import merge
from milepost_gateway.errors import JobExpired

FORGOTTEN = JobForgotten(forgotten=Forgotten(job_id=ID, tenant="default", type=ENDED.type, queue="default", run=1))


async def test_a_forgotten_job_is_gone_for_readers_and_its_next_run_is_not(store, reader, redis, keys):
    """Nothing of it is kept but what orders its events; a reader hears that it is gone, not that it is queued."""
    await store.apply(merge([JobSubmitted(job=SUBMITTED), JobSucceeded(job=ENDED), FORGOTTEN]))
    with pytest.raises(JobExpired):
        await reader.get(ID)
    kept = {field.decode() for field in await redis.hkeys(keys.job(ID))}
    assert not {"state", "hidden", "steps", "progress"} & kept
    assert not [field for field in kept if field.startswith("step:")]
    again = SUBMITTED.model_copy(update={"run": 2})
    await store.apply(merge([JobSucceeded(job=ENDED), JobSubmitted(job=again)]))
    stored = await reader.get(ID)
    assert 2 == stored.seen.run
    page = await reader.page(tenant="default", type_name=None, status=None, before=None, limit=9)
    assert [ID] == [place.job_id for place, _ in page]


async def test_a_job_that_is_forgotten_before_it_is_known_stays_so(store, reader):
    """Events come in any order: of a rebuild, for example."""
    await store.apply(merge([FORGOTTEN]))
    with pytest.raises(JobExpired):
        await reader.get(ID)
    await store.apply(merge([JobSucceeded(job=ENDED)]))
    with pytest.raises(JobExpired):
        await reader.get(ID)


async def test_a_stream_of_what_is_forgotten_ends(store, reader):
    """There is nothing more to come."""
    await store.apply(merge([JobSucceeded(job=ENDED), FORGOTTEN]))
    told = await reader.told(ID, 0, latest=True)
    assert (True, ()) == (told.terminal, told.events)


async def test_a_job_is_in_the_batch_that_its_latest_event_names_and_in_no_other(store, redis, keys):
    """A repeat may have handed it over with another one."""
    for batch, kind, job in (("one", JobSubmitted, SUBMITTED), ("two", JobSucceeded, ENDED)):
        await store.apply(merge([kind(job=job.model_copy(update={"batch": batch}))]))
    shard = shard_of(ID)
    sizes = [await redis.zcard(keys.batch(shard, *which)) for which in (("one",), ("one", "queued"), ("two",))]
    assert [0, 0, 1] == sizes
