"""What becomes of a webhook: taken, tried again, given up, or never sent."""

import json
from datetime import timedelta

import pytest
from samples import ENDED, ID, SUBMITTED
from standardwebhooks import Webhook
from webhook_parts import FakeEndpoint, FakeOutbox, FakeWebhookLog

from milepost_contracts.errors import RefusedCallback
from milepost_contracts.events import JobFailed, JobSubmitted, JobSucceeded, encode_event
from milepost_contracts.values import JobError
from milepost_contracts.webhooks import PORTS, RETRY_AFTER, CallbackRule, WebhookTry, parse_ports, parse_webhook_keys
from milepost_tracker.ports import Answer
from milepost_tracker.webhooks import MOST_AT_ONCE, Sent, Webhooks

URL = "https://hooks.example.com/milepost?token=1"
EVENT = JobSucceeded(job=ENDED.model_copy(update={"callback_url": URL, "result": {"größe": 1}}))
KEYS = parse_webhook_keys(f"2:{'ab' * 32},1:{'cd' * 32}")
DOWN = Answer(status_code=503, error=None, milliseconds=1)


@pytest.fixture
def endpoint():
    return FakeEndpoint()


@pytest.fixture
def story():
    return FakeWebhookLog()


@pytest.fixture
def outbox():
    return FakeOutbox()


@pytest.fixture
def webhooks(endpoint, story, outbox):
    return Webhooks(endpoint, story, outbox, rule=CallbackRule(ports=parse_ports(PORTS)), keys=KEYS)


def sent(event=EVENT, *, tries=0, asked=False):
    return Sent(body=encode_event(event), tries=tries, asked=asked)


async def test_a_receiver_verifies_what_it_gets_with_either_secret(webhooks, endpoint, story):
    """By the library of Standard Webhooks; so secrets can be changed without a gap."""
    await webhooks.deliver(sent())
    ((callback, body, headers),) = endpoint.posted
    assert ("hooks.example.com", "/milepost?token=1") == (callback.host, callback.target)
    for secret in KEYS.secrets("default"):
        told = Webhook(secret).verify(body, headers)
        assert (EVENT.event_id, ID, {"größe": 1}) == (told["id"], told["subject"], told["data"]["result"])
    assert EVENT.event_id == headers["webhook-id"]
    (tried,) = story.tries
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
        Answer(status_code=301, error=None, milliseconds=1),
        Answer(status_code=404, error=None, milliseconds=1),
        Answer(status_code=None, error="no answer within 15 s", milliseconds=15_000),
    ],
    ids=lambda answer: str(answer.status_code),
)
async def test_what_is_not_taken_waits_in_the_broker(webhooks, endpoint, story, outbox, answer):
    """With how often it was tried; redirects are not followed, and are no success."""
    endpoint.answers = [answer]
    await webhooks.deliver(sent())
    ((event, after, tries, asked),) = outbox.told
    assert (EVENT, 1, False) == (event, tries, asked)
    assert RETRY_AFTER[0] * 0.9 <= after <= RETRY_AFTER[0] * 1.1
    (tried,) = story.tries
    assert ("failed", answer.error) == (tried.outcome, tried.error)
    assert tried.next_at - tried.at >= RETRY_AFTER[0] * 0.9


async def test_it_is_tried_for_three_days_and_then_given_up(webhooks, endpoint, story, outbox):
    """Ten times in all, ever more rarely; the job's log says that there is no next one."""
    endpoint.answers = [DOWN] * 10
    for number in range(10):
        await webhooks.deliver(sent(tries=number))
    pauses = [after for _, after, _, _ in outbox.told]
    assert len(RETRY_AFTER) == len(pauses) == 9
    assert timedelta(days=3) < sum(RETRY_AFTER, timedelta())
    assert list(range(1, 11)) == [one.number for one in story.tries]
    assert story.tries[-1].next_at is None


async def test_a_webhook_that_comes_twice_is_sent_once(webhooks, endpoint, story, outbox):
    """A tracker may die after it has sent one; and of two that are tried again, one is left."""
    await webhooks.deliver(sent())
    await webhooks.deliver(sent())
    assert 1 == len(endpoint.posted)
    story.tries = [story.tries[0].model_copy(update={"outcome": "failed", "number": 2})]
    await webhooks.deliver(sent(tries=1))
    assert (1, []) == (len(endpoint.posted), outbox.told)
    await webhooks.deliver(sent(tries=2))
    assert 2 == len(endpoint.posted)


async def test_who_asks_for_it_again_gets_it(webhooks, endpoint, story):
    """Whatever became of it before, and with the same id."""
    await webhooks.deliver(sent())
    await webhooks.deliver(sent(asked=True))
    assert [EVENT.event_id] * 2 == [headers["webhook-id"] for *_, headers in endpoint.posted]
    assert 2 == len(story.tries)


async def test_what_somebody_asked_for_is_tried_again_too(webhooks, endpoint, story, outbox):
    """Until it is taken, whatever became of the tries before; and once it is, the others end as well."""
    endpoint.answers = [DOWN] * 3
    await webhooks.deliver(sent(tries=8))
    await webhooks.deliver(sent(asked=True))
    assert (EVENT, 1, True) == (outbox.told[-1][0], *outbox.told[-1][2:])
    await webhooks.deliver(sent(tries=1, asked=True))
    assert (2, True) == outbox.told[-1][2:]
    await webhooks.deliver(sent(tries=2, asked=True))
    for again in (sent(tries=2, asked=True), sent(tries=9)):
        await webhooks.deliver(again)
    assert (4, "delivered") == (len(endpoint.posted), story.tries[-1].outcome)
    assert [(9, False), (1, True), (2, True), (3, True)] == [(one.number, one.asked) for one in story.tries]


async def test_410_disables_the_url_until_somebody_asks(webhooks, endpoint, story, outbox):
    """This job's webhook is not tried again, and no later job's is sent; a redelivery that is taken opens it again."""
    endpoint.answers = [Answer(status_code=410, error=None, milliseconds=1)]
    await webhooks.deliver(sent())
    assert (["gone"], [], True) == ([one.outcome for one in story.tries], outbox.told, story.disabled)
    other = EVENT.model_copy(update={"event_id": "another"})
    await webhooks.deliver(sent(other))
    assert (["gone", "disabled"], 1) == ([one.outcome for one in story.tries], len(endpoint.posted))
    await webhooks.deliver(sent(asked=True))
    assert not story.disabled
    await webhooks.deliver(sent(other.model_copy(update={"event_id": "a third"})))
    assert ["delivered", "delivered"] == [one.outcome for one in story.tries[2:]]


async def test_an_end_that_did_not_win_is_not_told(webhooks, endpoint, story):
    """Of a processor that was taken for dead, for example; but the end of an earlier run is."""
    failed = JobFailed(job=EVENT.job.model_copy(update={"error": JobError(kind="lost", message="?"), "result": None}))
    story.sequence = EVENT.sequence
    await webhooks.deliver(sent(failed))
    assert [] == endpoint.posted
    story.sequence = JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2})).sequence
    await webhooks.deliver(sent(failed))
    assert 1 == len(endpoint.posted)


async def test_a_job_that_is_forgotten_is_not_told_of(webhooks, endpoint, story):
    """Who deletes a job wants nothing of it to be left."""
    story.forgotten = 1
    for asked in (False, True):
        await webhooks.deliver(sent(asked=asked))
    assert [] == endpoint.posted


async def test_where_it_may_not_lead_nothing_is_sent(webhooks, endpoint, story, outbox):
    """The rule may be another than when the job was handed over, and a name may lead elsewhere by now."""
    endpoint.answers = [RefusedCallback("its host is in a private or special network")]
    await webhooks.deliver(sent())
    odd = EVENT.model_copy(update={"job": EVENT.job.model_copy(update={"callback_url": "http://10.0.0.1/"})})
    await webhooks.deliver(sent(odd.model_copy(update={"event_id": "odd"})))
    assert (["refused", "refused"], []) == ([one.outcome for one in story.tries], outbox.told)
    assert 1 == len(endpoint.posted)
    assert "private" in story.tries[0].error


async def test_a_mistake_of_ours_is_a_failed_try(webhooks, endpoint, story, outbox):
    """It is tried again, by another release perhaps; and does not take its room for ever."""
    endpoint.answers = [RuntimeError("a library is not installed")]
    await webhooks.deliver(sent())
    assert [1] == [tries for _, _, tries, _ in outbox.told]
    assert ("failed", True) == (story.tries[0].outcome, "mistake of ours" in story.tries[0].error)


@pytest.mark.parametrize("place", [("host", "hooks.example.com:443"), ("tenant", "default")])
async def test_nobody_takes_all_the_room(webhooks, endpoint, outbox, story, place):
    """Beyond some at once of a slow host, or of a tenant, webhooks wait, ever longer; that is no try."""
    webhooks._busy[place] = MOST_AT_ONCE[place[0]]
    for put_off, (least, most) in enumerate([(1, 2), (2, 4), (4, 8)]):
        await webhooks.deliver(Sent(body=encode_event(EVENT), tries=3, put_off=put_off))
        _, after, tries, _ = outbox.told[-1]
        assert timedelta(seconds=least) <= after <= timedelta(seconds=most)
        assert (3, put_off + 1) == (tries, outbox.put_off)
    await webhooks.deliver(Sent(body=encode_event(EVENT), tries=3, put_off=1_000))
    assert timedelta(minutes=2.5) <= outbox.told[-1][1] <= timedelta(minutes=5)
    assert ([], [], 4) == (endpoint.posted, story.tries, len(story.waiting))


async def test_there_is_room_again_when_one_is_done(webhooks, endpoint):
    """And nothing is kept of hosts that have nothing on its way."""
    many = 2 * MOST_AT_ONCE["tenant"]
    for number in range(many):
        await webhooks.deliver(sent(EVENT.model_copy(update={"event_id": f"e{number}"})))
    assert (many, 0) == (len(endpoint.posted), len(webhooks._busy))


@pytest.mark.parametrize(
    "body", [b"nonsense", encode_event(JobSubmitted(job=SUBMITTED)), encode_event(JobSucceeded(job=ENDED))]
)
async def test_what_is_no_webhook_is_kept_for_people(webhooks, endpoint, outbox, body):
    """And takes nobody's room."""
    await webhooks.deliver(Sent(body=body, tries=0, asked=False))
    assert ([], 1) == (endpoint.posted, len(outbox.poison))


def test_a_try_of_a_newer_release_is_read_as_far_as_it_is_known():
    """Fields are only ever added."""
    body = {"webhook_id": "1", "event": "succeeded", "number": 1, "at": "2026-01-02T03:04:05Z", "outcome": "failed"}
    assert "failed" == WebhookTry.model_validate_json(json.dumps({**body, "of_a_newer_release": 1})).outcome
