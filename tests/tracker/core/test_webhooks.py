"""The delivery of webhooks: delivered, retried, given up, or never sent."""

import json
from datetime import timedelta

import pytest
from samples import ENDED, ID, SUBMITTED
from standardwebhooks import Webhook
from trusted import TRUST, believed, own, received
from webhook_parts import FakeEndpoint, FakeEventPublisher, FakeWebhookLog

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.http.callback_urls import DEFAULT_PORTS, CallbackPolicy, parse_ports
from milepost_contracts.http.webhooks import RETRY_DELAYS, WebhookTry, parse_webhook_keys, routing_key
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JobFailed, JobSubmitted, JobSucceeded
from milepost_contracts.values import JobError
from milepost_tracker.core.webhooks import MAX_CONCURRENT_PER, QueuedWebhook, Webhooks
from milepost_tracker.ports.status_store import KnownJob
from milepost_tracker.ports.webhook_client import WebhookAnswer

URL = "https://hooks.example.com/milepost?token=1"
EVENT = believed(JobSucceeded(job=ENDED.model_copy(update={"callback_url": URL, "result": {"größe": 1}})))
KEYS = parse_webhook_keys(f"2:{'ab' * 32},1:{'cd' * 32}")
WITHOUT_GRANT = EVENT.model_copy(update={"job": EVENT.job.model_copy(update={"grant": None})})
DOWN = WebhookAnswer(status_code=503, error=None, milliseconds=1)


@pytest.fixture
def webhook_client():
    return FakeEndpoint()


@pytest.fixture
def state():
    return FakeWebhookLog()


@pytest.fixture
def publisher():
    return FakeEventPublisher()


class FakeStatusStore:
    """The view: it has the end of one job."""

    async def jobs(self, job_ids):
        return [KnownJob(job=EVENT.job, status=EVENT.status, due=None, cancel_at=None, at=EVENT.time)]


@pytest.fixture
def status():
    return FakeStatusStore()


@pytest.fixture
def webhooks(webhook_client, state, publisher, status):
    return Webhooks(
        webhook_client,
        state,
        publisher,
        status,
        trust=TRUST,
        policy=CallbackPolicy(ports=parse_ports(DEFAULT_PORTS)),
        keys=KEYS,
    )


def due(event):
    """Return an event as a tracker publishes it to be sent."""
    key = routing_key(event.job, after=timedelta(seconds=5))
    return received(event, user_id="tracker", routing_key=key)


def queued(event=EVENT, *, tries=0, asked=False):
    return QueuedWebhook(received=due(event), tries=tries, asked=asked)


async def test_a_webhook_can_be_verified_with_either_secret(webhooks, webhook_client, state):
    """With the library of Standard Webhooks; so secrets can be rotated without a gap."""
    await webhooks.deliver(queued())
    ((callback, body, headers),) = webhook_client.posted
    assert ("hooks.example.com", "/milepost?token=1") == (callback.host, callback.target)
    for secret in KEYS.secrets("default"):
        verified = Webhook(secret).verify(body, headers)
        assert (EVENT.event_id, ID, {"größe": 1}) == (verified["id"], verified["subject"], verified["data"]["result"])
    assert EVENT.event_id == headers["webhook-id"]
    (tried,) = state.tries
    assert ("delivered", "succeeded", 1, 204, 7) == (
        tried.outcome,
        tried.event,
        tried.number,
        tried.status_code,
        tried.duration_ms,
    )


@pytest.mark.parametrize(
    "answer",
    [
        DOWN,
        WebhookAnswer(status_code=301, error=None, milliseconds=1),
        WebhookAnswer(status_code=404, error=None, milliseconds=1),
        WebhookAnswer(status_code=None, error="no answer within 15 s", milliseconds=15_000),
    ],
    ids=lambda answer: str(answer.status_code),
)
async def test_a_webhook_that_is_not_accepted_is_queued_for_a_retry(webhooks, webhook_client, state, publisher, answer):
    """With its number of tries. A redirect is not followed and counts as a failure."""
    webhook_client.answers = [answer]
    await webhooks.deliver(queued())
    ((event, after, tries, asked),) = publisher.published
    assert (EVENT, 1, False) == (event, tries, asked)
    assert RETRY_DELAYS[0] * 0.9 <= after <= RETRY_DELAYS[0] * 1.1
    (tried,) = state.tries
    assert ("failed", answer.error) == (tried.outcome, tried.error)
    assert tried.next_at - tried.at >= RETRY_DELAYS[0] * 0.9


async def test_a_webhook_is_retried_for_three_days_and_then_given_up(webhooks, webhook_client, state, publisher):
    """Ten tries with growing delays; the last try in the log has no next one."""
    webhook_client.answers = [DOWN] * 10
    for number in range(10):
        await webhooks.deliver(queued(tries=number))
    pauses = [after for _, after, _, _ in publisher.published]
    assert len(RETRY_DELAYS) == len(pauses) == 9
    assert timedelta(days=3) < sum(RETRY_DELAYS, timedelta())
    assert list(range(1, 11)) == [one.number for one in state.tries]
    assert state.tries[-1].next_at is None


async def test_a_redelivered_webhook_is_sent_once(webhooks, webhook_client, state, publisher):
    """A tracker may die after it has sent one; of two copies that are retried, one is dropped."""
    await webhooks.deliver(queued())
    await webhooks.deliver(queued())
    assert 1 == len(webhook_client.posted)
    state.tries = [state.tries[0].model_copy(update={"outcome": "failed", "number": 2})]
    await webhooks.deliver(queued(tries=1))
    assert (1, []) == (len(webhook_client.posted), publisher.published)
    await webhooks.deliver(queued(tries=2))
    assert 2 == len(webhook_client.posted)


async def test_a_requested_redelivery_is_always_sent(webhooks, webhook_client, state):
    """Whatever its earlier outcome, and with the same webhook id."""
    await webhooks.deliver(queued())
    await webhooks.deliver(queued(asked=True))
    assert [EVENT.event_id] * 2 == [headers["webhook-id"] for *_, headers in webhook_client.posted]
    assert 2 == len(state.tries)


@pytest.mark.parametrize(
    "change",
    [{"result": {"invented": True}}, {"callback_url": "https://example.com"}, {"run": 2}],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("asked", [True, False])
async def test_a_gateway_has_an_end_sent_again_and_invents_none(webhooks, webhook_client, publisher, change, asked):
    """What it publishes must be the end that the status view has; nothing else is signed."""
    real = received(EVENT, user_id="gateway", routing_key=routing_key(EVENT.job, after=timedelta(0)))
    await webhooks.deliver(QueuedWebhook(received=real, tries=0, asked=True))
    assert 1 == len(webhook_client.posted)
    forged = EVENT.model_copy(update={"job": own(EVENT.job, **change)})
    queued = received(forged, user_id="gateway", routing_key=routing_key(forged.job, after=timedelta(0)))
    await webhooks.deliver(QueuedWebhook(received=queued, tries=0, asked=asked))
    assert (1, "the status view has no such end of the job") == (
        len(webhook_client.posted),
        publisher.poison[0][2],
    )


async def test_a_requested_redelivery_is_retried_like_any_other(webhooks, webhook_client, state, publisher):
    """Until it is accepted; then all pending retries of this webhook end."""
    webhook_client.answers = [DOWN] * 3
    await webhooks.deliver(queued(tries=8))
    await webhooks.deliver(queued(asked=True))
    assert (EVENT, 1, True) == (publisher.published[-1][0], *publisher.published[-1][2:])
    await webhooks.deliver(queued(tries=1, asked=True))
    assert (2, True) == publisher.published[-1][2:]
    await webhooks.deliver(queued(tries=2, asked=True))
    for again in (queued(tries=2, asked=True), queued(tries=9)):
        await webhooks.deliver(again)
    assert (4, "delivered") == (len(webhook_client.posted), state.tries[-1].outcome)
    assert [(9, False), (1, True), (2, True), (3, True)] == [(one.number, one.asked) for one in state.tries]


async def test_410_disables_the_url_until_a_redelivery_succeeds(webhooks, webhook_client, state, publisher):
    """It is not retried, and later webhooks are not sent; a successful redelivery enables the URL again."""
    webhook_client.answers = [WebhookAnswer(status_code=410, error=None, milliseconds=1)]
    await webhooks.deliver(queued())
    assert (["gone"], [], True) == ([one.outcome for one in state.tries], publisher.published, state.disabled)
    other = EVENT.model_copy(update={"event_id": "another"})
    await webhooks.deliver(queued(other))
    assert (["gone", "disabled"], 1) == ([one.outcome for one in state.tries], len(webhook_client.posted))
    await webhooks.deliver(queued(asked=True))
    assert not state.disabled
    await webhooks.deliver(queued(other.model_copy(update={"event_id": "a third"})))
    assert ["delivered", "delivered"] == [one.outcome for one in state.tries[2:]]


async def test_an_end_that_was_superseded_is_not_sent(webhooks, webhook_client, state):
    """For example, of a processor that counted as lost. The end of an earlier run is sent."""
    failed = JobFailed(job=EVENT.job.model_copy(update={"error": JobError(kind="lost", message="?"), "result": None}))
    state.sequence = EVENT.sequence
    await webhooks.deliver(queued(failed))
    assert [] == webhook_client.posted
    state.sequence = JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2})).sequence
    await webhooks.deliver(queued(failed))
    assert 1 == len(webhook_client.posted)


async def test_no_webhook_is_sent_for_a_deleted_job(webhooks, webhook_client, state):
    """Not even if a redelivery was requested."""
    state.deleted_run = 1
    for asked in (False, True):
        await webhooks.deliver(queued(asked=asked))
    assert [] == webhook_client.posted


async def test_no_webhook_is_sent_to_a_refused_url(webhooks, webhook_client, state, publisher):
    """The policy or the name's address may have changed since the job was submitted."""
    webhook_client.answers = [RefusedCallback("its host is in a private or special network")]
    await webhooks.deliver(queued())
    odd = EVENT.model_copy(update={"job": EVENT.job.model_copy(update={"callback_url": "http://10.0.0.1/"})})
    await webhooks.deliver(queued(odd.model_copy(update={"event_id": "odd"})))
    assert (["refused", "refused"], []) == ([one.outcome for one in state.tries], publisher.published)
    assert 1 == len(webhook_client.posted)
    assert "private" in state.tries[0].error


async def test_an_unexpected_exception_is_a_failed_try(webhooks, webhook_client, state, publisher):
    """It is retried, and does not occupy its slot for ever."""
    webhook_client.answers = [RuntimeError("a library is not installed")]
    await webhooks.deliver(queued())
    assert [1] == [tries for _, _, tries, _ in publisher.published]
    assert ("failed", True) == (state.tries[0].outcome, "an error in the tracker" in state.tries[0].error)


@pytest.mark.parametrize("limit", [("host", "hooks.example.com:443"), ("tenant", "default")])
async def test_webhooks_above_the_concurrency_limit_are_postponed(webhooks, webhook_client, publisher, state, limit):
    """Per host and per tenant, with growing delays; a postponement does not count as a try."""
    webhooks._busy[limit] = MAX_CONCURRENT_PER[limit[0]]
    for put_off, (least, most) in enumerate([(1, 2), (2, 4), (4, 8)]):
        await webhooks.deliver(QueuedWebhook(received=due(EVENT), tries=3, put_off=put_off))
        _, after, tries, _ = publisher.published[-1]
        assert timedelta(seconds=least) <= after <= timedelta(seconds=most)
        assert (3, put_off + 1) == (tries, publisher.put_off)
    await webhooks.deliver(QueuedWebhook(received=due(EVENT), tries=3, put_off=1_000))
    assert timedelta(minutes=2.5) <= publisher.published[-1][1] <= timedelta(minutes=5)
    assert ([], [], 4) == (webhook_client.posted, state.tries, len(state.waiting))


async def test_a_slot_is_freed_when_a_webhook_is_done(webhooks, webhook_client):
    """Nothing is kept for hosts without a webhook in flight."""
    many = 2 * MAX_CONCURRENT_PER["tenant"]
    for number in range(many):
        await webhooks.deliver(queued(EVENT.model_copy(update={"event_id": f"e{number}"})))
    assert (many, 0) == (len(webhook_client.posted), len(webhooks._busy))


@pytest.mark.parametrize(
    "queued",
    [
        received(b"nonsense"),
        received(JobSubmitted(job=SUBMITTED)),
        received(JobSucceeded(job=ENDED)),
        due(EVENT)._replace(user_id="processor"),
        due(EVENT)._replace(user_id=None),
        due(EVENT)._replace(routing_key="webhook.send.cpu.digest-files"),
        due(EVENT)._replace(body=encode(WITHOUT_GRANT)),
    ],
    ids=["nonsense", "no end", "no URL", "of a processor", "of nobody", "of another queue", "without a grant"],
)
async def test_a_webhook_that_is_not_believed_is_published_as_poison(webhooks, webhook_client, publisher, queued):
    """Nothing is sent, and it occupies no slot."""
    await webhooks.deliver(QueuedWebhook(received=queued, tries=0, asked=False))
    assert ([], 1) == (webhook_client.posted, len(publisher.poison))


def test_a_webhook_try_with_unknown_fields_can_be_read():
    """A newer release may add fields."""
    body = {"webhook_id": "1", "event": "succeeded", "number": 1, "at": "2026-01-02T03:04:05Z", "outcome": "failed"}
    assert "failed" == WebhookTry.model_validate_json(json.dumps({**body, "of_a_newer_release": 1})).outcome
