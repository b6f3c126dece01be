"""The log of webhook deliveries in a real Redis: written by a tracker, read by a gateway."""

from datetime import timedelta

import pytest
from samples import AT, ENDED, ID

from milepost_contracts.clock import now
from milepost_contracts.http.webhooks import MAX_TRIES_KEPT, WebhookTry
from milepost_contracts.messages.job_events import DeletionRequest, JobDeleted, JobSucceeded
from milepost_contracts.status.merge import merge
from milepost_gateway.adapters.redis.webhook_log import RedisWebhookLog as Reader
from milepost_tracker.adapters.redis.job_counts import RedisJobCounts
from milepost_tracker.adapters.redis.webhook_log import RedisWebhookLog

JOB = ENDED.model_copy(update={"callback_url": "https://example.com/"})
FAILED = WebhookTry(webhook_id="w", event="succeeded", number=1, at=AT, outcome="failed", error="no", next_at=AT)
DELETED = JobDeleted(request=DeletionRequest(job_id=ID, tenant="default", type=JOB.type, queue="default", run=1))


@pytest.fixture
def webhooks(redis, keys):
    return RedisWebhookLog(redis, keys, retention=timedelta(days=7))


async def test_a_gateway_reads_the_tries_that_a_tracker_recorded(webhooks, redis, keys):
    """Oldest first, and only the latest `MAX_TRIES_KEPT`."""
    tries = [FAILED.model_copy(update={"number": number}) for number in range(1, MAX_TRIES_KEPT + 3)]
    for tried in tries:
        await webhooks.record(JOB, tried)
    assert tries[-MAX_TRIES_KEPT:] == list(await Reader(redis, keys).tries(ID))
    assert tuple(tries[-MAX_TRIES_KEPT:]) == (await webhooks.state(JOB)).tries


async def test_the_webhook_state_has_the_sequence_run_and_deletion_of_the_view(webhooks, store):
    """It shows which end is current. An unknown job has an empty state."""
    unknown = await webhooks.state(JOB)
    assert ("", 0, 0, False) == (unknown.sequence, unknown.run, unknown.deleted_run, unknown.disabled)
    event = JobSucceeded(job=JOB)
    await store.apply(merge([event]))
    known = await webhooks.state(JOB)
    assert (event.sequence, 1, 0) == (known.sequence, known.run, known.deleted_run)
    await store.apply(merge([DELETED]))
    assert 1 == (await webhooks.state(JOB)).deleted_run


async def test_a_url_is_disabled_for_one_tenant_only(webhooks):
    """Another tenant with the same URL is not affected."""
    other = JOB.model_copy(update={"tenant": "other"})
    await webhooks.disable(JOB, disabled=True)
    assert [True, False] == [(await webhooks.state(job)).disabled for job in (JOB, other)]
    await webhooks.disable(JOB, disabled=False)
    assert not (await webhooks.state(JOB)).disabled


async def test_webhooks_in_the_delay_levels_are_counted(webhooks, redis, keys):
    """Reconciliation must not count them as jobs. A webhook whose time has come no longer counts."""
    job_counts = RedisJobCounts(redis, keys)
    for name, after in (("a 1 0", 60), ("b 1 0", 3_600), ("c 1 0", -1)):
        await webhooks.record_wait(name, now() + timedelta(seconds=after))
    assert 2 == await job_counts.waiting_webhooks()
