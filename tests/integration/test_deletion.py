"""The deletion of a job, in a real Redis."""

import pytest
from samples import ENDED, ID, SUBMITTED

from milepost_contracts.messages.job_events import DeletionRequest, JobDeleted, JobSubmitted, JobSucceeded
from milepost_contracts.status.merge import merge
from milepost_contracts.status.redis_keys import shard_of
from milepost_gateway.errors import JobExpired

DELETED = JobDeleted(request=DeletionRequest(job_id=ID, tenant="default", type=ENDED.type, queue="default", run=1))


async def test_a_deleted_job_is_expired_for_readers_until_its_next_run(store, reader, index, redis, keys):
    """Only the fields that order its events stay, so that a late event does not bring it back."""
    await store.apply(merge([JobSubmitted(job=SUBMITTED), JobSucceeded(job=ENDED), DELETED]))
    with pytest.raises(JobExpired):
        await reader.get(ID)
    kept = {field.decode() for field in await redis.hkeys(keys.job(ID))}
    assert not {"state", "hidden", "summary", "history", "progress"} & kept
    assert not [field for field in kept if field.startswith("event:")]
    again = SUBMITTED.model_copy(update={"run": 2})
    await store.apply(merge([JobSucceeded(job=ENDED), JobSubmitted(job=again)]))
    assert 2 == (await reader.get(ID)).summary.run
    page = await index.page(tenant="default", type_name=None, status=None, before=None, limit=9)
    assert [ID] == [place.job_id for place, _ in page]


async def test_a_job_whose_deletion_arrives_before_its_events_stays_deleted(store, reader):
    """Events arrive in any order, for example in a rebuild."""
    await store.apply(merge([DELETED]))
    with pytest.raises(JobExpired):
        await reader.get(ID)
    await store.apply(merge([JobSucceeded(job=ENDED)]))
    with pytest.raises(JobExpired):
        await reader.get(ID)


async def test_the_stream_of_a_deleted_job_ends(store, reader):
    """No event will follow."""
    await store.apply(merge([JobSucceeded(job=ENDED), DELETED]))
    events = await reader.events(ID, 0, latest=True)
    assert (True, ()) == (events.terminal, events.events)


async def test_a_job_is_only_in_the_batch_of_its_latest_event(store, redis, keys):
    """A repeated submission may have put it into another batch."""
    for batch, kind, job in (("one", JobSubmitted, SUBMITTED), ("two", JobSucceeded, ENDED)):
        await store.apply(merge([kind(job=job.model_copy(update={"batch": batch}))]))
    shard = shard_of(ID)
    sizes = [await redis.zcard(keys.batch(shard, *path)) for path in (("one",), ("one", "queued"), ("two",))]
    assert [0, 0, 1] == sizes


async def test_a_deleted_job_still_counts_in_its_batch(store, index):
    """Until it would have expired: the progress of a batch does not go back. A later run replaces it."""
    ended = JobSucceeded(job=ENDED.model_copy(update={"batch": "abc"}))
    for events in ([ended], [DELETED], [ended]):
        await store.apply(merge(events))
        assert 1 == (await index.counts(tenant="default", batch="abc"))["succeeded"]
    assert {0} == set((await index.counts(tenant="default")).values())
    assert [] == await batch_page(index, status=None)
    assert [None] == await batch_page(index, status="succeeded"), "without a document"
    await store.apply(merge([JobSubmitted(job=SUBMITTED.model_copy(update={"batch": "abc", "run": 2}))]))
    counts = await index.counts(tenant="default", batch="abc")
    assert (1, 0) == (counts["queued"], counts["succeeded"])


async def batch_page(index, status):
    page = await index.page(tenant="default", type_name=None, status=status, before=None, limit=9, batch="abc")
    return [stored for _, stored in page]
