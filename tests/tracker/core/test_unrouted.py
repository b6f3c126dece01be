"""Messages without a queue: each goes to where its way goes on. With a broker: tests/integration/test_delays.py."""

from datetime import timedelta

import pytest
from samples import RUNNING, SUBMITTED
from trusted import TRUST, received

from milepost_contracts.clock import now
from milepost_contracts.http import webhooks
from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.job_events import (
    JobInterrupted,
    JobPostponed,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_tracker.core.unrouted import UnroutedHandler

ENDED = JobSucceeded(job=RUNNING.model_copy(update={"finished_at": now(), "callback_url": "https://example.com"}))


class FakeDelivery:
    queue = "unrouted"

    def __init__(self, event, key=None, headers=None, **changes):
        self.received = received(event, **({} if key is None else {"routing_key": key}), **changes)
        self.headers = headers or {}


class FakeMessageRouter:
    def __init__(self):
        self.calls = []

    async def declare(self, queues):
        self.calls.append(("declare", sorted(queues)))

    async def publish(self, message, *, to):
        self.calls.append((to, message))


async def handled(*deliveries):
    router = FakeMessageRouter()
    poison = await UnroutedHandler(TRUST, router).handle(deliveries)
    return router.calls, poison


def waits(kind, seconds, **changes):
    at = now()
    job = SUBMITTED.model_copy(update={"run_at": at + timedelta(seconds=seconds), **changes})
    return kind(job=job, time=at - timedelta(days=1))


@pytest.mark.parametrize("kind", [JobSubmitted, JobInterrupted, JobQuarantined])
async def test_a_job_that_is_to_run_now_goes_to_the_entry_queue_of_its_queue(kind):
    """The queue is declared first."""
    delivery = FakeDelivery(kind(job=SUBMITTED))
    (declared, (stage, message)), poison = await handled(delivery)
    assert ("declare", ["default"]) == declared
    assert ("entry", delivery.received.routing_key, delivery.received.body) == (
        stage,
        message.routing_key,
        message.body,
    )
    assert [] == poison


@pytest.mark.parametrize("event", [JobSubmitted(job=SUBMITTED), ENDED], ids=["command", "event"])
async def test_a_message_with_a_wrong_routing_key_is_not_published_again(event):
    """A tracker would vouch for it with its own user."""
    calls, (poison,) = await handled(FakeDelivery(event, "job.x.y.z"))
    assert ([("declare", [])], True) == (calls, "routing key" in poison.reason)


async def test_a_webhook_of_a_processor_is_not_published_again():
    """Only trackers and gateways have webhooks sent."""
    key = webhooks.routing_key(ENDED.job, after=timedelta(hours=1))
    calls, (poison,) = await handled(FakeDelivery(ENDED, key, user_id="processor"))
    assert ([("declare", [])], "the user 'processor' may not state webhook.send") == (calls, poison.reason)


@pytest.mark.parametrize("kind", [JobScheduled, JobRetrying, JobPostponed])
async def test_a_job_for_later_waits_for_the_rest_of_its_delay(kind):
    """A level was missing on its way: the words of its routing key are those of the whole delay, a day and a minute."""
    (_, (stage, message)), _ = await handled(FakeDelivery(waits(kind, 60)))
    words = message.routing_key.split(".")
    assert ("levels", kind.fact.split(".")) == (stage, words[:2])
    assert int("".join(words[-LEVELS:]), 2) in (59, 60)
    assert 4 + LEVELS == len(words)


async def test_a_job_whose_delay_is_over_goes_to_its_entry_queue():
    """Its entry queue was missing, or its last level."""
    delivery = FakeDelivery(waits(JobRetrying, -1))
    (_, (stage, message)), _ = await handled(delivery)
    assert ("entry", delivery.received.routing_key) == (stage, message.routing_key)


async def test_a_job_that_is_postponed_in_quarantine_stays_so():
    """Its routing key says which queue it goes to."""
    (_, (_, message)), _ = await handled(FakeDelivery(waits(JobPostponed, 60, quarantined=1)))
    assert message.routing_key.startswith("job.postponed-in-quarantine.default.digest-files.")


async def test_a_webhook_is_sent_at_once():
    """It carries the end of a job, and the number of its tries in a header."""
    key = webhooks.routing_key(ENDED.job, after=timedelta(hours=1))
    (declared, (stage, message)), _ = await handled(
        FakeDelivery(ENDED, key, {webhooks.TRIES_HEADER: "3"}, user_id="tracker")
    )
    assert ("declare", []) == declared
    assert ("entry", key, "3") == (stage, message.routing_key, message.headers[webhooks.TRIES_HEADER])


async def test_other_events_go_to_the_view_and_the_log():
    """Both of their queues were missing."""
    calls, _ = await handled(FakeDelivery(ENDED), FakeDelivery(JobStarted(job=RUNNING)))
    assert ["declare", "events", "events"] == [what for what, _ in calls]


@pytest.mark.parametrize("key", ["processor.heartbeat", "job.progressed.default.count"])
async def test_what_repeats_itself_is_discarded(key):
    """The next heartbeat, or the next progress, has all of it again."""
    assert ([("declare", [])], []) == await handled(FakeDelivery(b"{}", key))


async def test_an_unreadable_message_is_poison_and_the_others_go_on():
    """No queue is declared by what anybody may write into a routing key."""
    bad = FakeDelivery(b"garbage", "job.submitted.anything.x")
    calls, (poison,) = await handled(bad, FakeDelivery(JobSubmitted(job=SUBMITTED)))
    assert bad is poison.delivery
    assert [("declare", ["default"])] == calls[:1]
    assert 2 == len(calls)


async def test_a_message_that_can_not_be_published_again_is_set_aside_alone():
    """Its neighbours go on."""

    class OddRouter(FakeMessageRouter):
        async def publish(self, message, *, to):
            if message.subject == "odd":
                raise ValueError("odd")
            await super().publish(message, to=to)

    router, odd = OddRouter(), FakeDelivery(JobSubmitted(job=SUBMITTED.model_copy(update={"id": "odd"})))
    (poison,) = await UnroutedHandler(TRUST, router).handle([odd, FakeDelivery(JobSubmitted(job=SUBMITTED))])
    assert (odd, "entry") == (poison.delivery, router.calls[-1][0])
