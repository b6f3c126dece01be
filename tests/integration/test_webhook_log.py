"""What became of webhooks, in a real Redis: written by a tracker, read by a gateway."""

from datetime import timedelta

import pytest
from samples import AT, ENDED, ID

from milepost_contracts.envelope import now
from milepost_contracts.events import Forgotten, JobForgotten, JobSucceeded
from milepost_contracts.view import merge
from milepost_contracts.webhooks import LAST_DELIVERIES, WebhookTry
from milepost_gateway.store import RedisWebhookLog as Reader
from milepost_tracker.books import RedisAccounts
from milepost_tracker.webhook_log import RedisWebhookLog

JOB = ENDED.model_copy(update={"callback_url": "https://example.com/"})
FAILED = WebhookTry(webhook_id="w", event="succeeded", number=1, at=AT, outcome="failed", error="no", next_at=AT)
FORGOTTEN = JobForgotten(forgotten=Forgotten(job_id=ID, tenant="default", type=JOB.type, queue="default", run=1))


@pytest.fixture
def webhooks(redis, keys):
    return RedisWebhookLog(redis, keys, retention=timedelta(days=7))


async def test_what_a_tracker_notes_a_gateway_tells(webhooks, redis, keys):
    """Oldest first, and the latest ones alone."""
    tries = [FAILED.model_copy(update={"number": number}) for number in range(1, LAST_DELIVERIES + 3)]
    for tried in tries:
        await webhooks.record(JOB, tried)
    assert tries[-LAST_DELIVERIES:] == list(await Reader(redis, keys).tries(ID))
    assert tuple(tries[-LAST_DELIVERIES:]) == (await webhooks.story(JOB)).tries


async def test_the_story_of_a_job_says_which_end_has_won(webhooks, store):
    """And of which run it is, and whether the job is forgotten; of a job that nobody knows, nothing."""
    unknown = await webhooks.story(JOB)
    assert ("", 0, 0, False) == (unknown.sequence, unknown.run, unknown.forgotten, unknown.disabled)
    event = JobSucceeded(job=JOB)
    await store.apply(merge([event]))
    known = await webhooks.story(JOB)
    assert (event.sequence, 1, 0) == (known.sequence, known.run, known.forgotten)
    await store.apply(merge([FORGOTTEN]))
    assert 1 == (await webhooks.story(JOB)).forgotten


async def test_a_url_is_disabled_for_its_tenant_alone(webhooks):
    """Another tenant's receiver behind the same URL has said nothing."""
    other = JOB.model_copy(update={"tenant": "other"})
    await webhooks.disable(JOB, disabled=True)
    assert [True, False] == [(await webhooks.story(job)).disabled for job in (JOB, other)]
    await webhooks.disable(JOB, disabled=False)
    assert not (await webhooks.story(JOB)).disabled


async def test_what_waits_in_the_ladder_is_known_to_the_books(webhooks, redis, keys):
    """It is no job; and no longer waits once its time has come."""
    accounts = RedisAccounts(redis, keys)
    for name, after in (("a 1 0", 60), ("b 1 0", 3_600), ("c 1 0", -1)):
        await webhooks.waits(name, now() + timedelta(seconds=after))
    assert 2 == await accounts.waiting_webhooks()
