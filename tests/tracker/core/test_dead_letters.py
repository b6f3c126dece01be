"""The dead-letter handler: a dead-lettered job is quarantined or ends with a reason; unreadable messages are kept."""

import asyncio
from datetime import UTC, timedelta

import pytest
from extreme_events import MOMENTS, believed_events, readable
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import AT, ID, RUNNING, SAMPLES, SUBMITTED
from trusted import TRUST, received

from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import (
    COMMANDS,
    JobInterrupted,
    JobPostponed,
    JobQuarantined,
    JobStarted,
    JobSubmitted,
    decode_event,
)
from milepost_contracts.messages.topology import Topology
from milepost_contracts.states import Status
from milepost_contracts.values import MAX_STATED_DELIVERY, Attempt, PutOff
from milepost_tracker.core.dead_letters import DeadLetterHandler
from milepost_tracker.ports.status_store import ClaimState, KnownJob

TOPOLOGY = Topology()
COMMAND = JobSubmitted(job=SUBMITTED)


class FakeDelivery:
    queue = "dead-letters"

    def __init__(self, message, reason="delivery_limit", queue="work.default", **headers):
        self.received = received(message)
        self.headers = {"x-death": [{"reason": reason, "queue": queue, "time": AT}], **headers}


class FakeEventPublisher:
    def __init__(self):
        self.events = []
        self.poison = []

    async def publish(self, event):
        self.events.append(event)

    async def publish_poison(self, body, *, queue, reason):
        self.poison.append((body, queue, reason))


class FakePoisonStore:
    def __init__(self):
        self.recorded = []

    async def record(self, body, *, queue, reason, at):
        assert at.tzinfo is UTC
        self.recorded.append((body, queue, reason))


@pytest.fixture
def publisher():
    return FakeEventPublisher()


@pytest.fixture
def poisons():
    return FakePoisonStore()


class FakeStore:
    """Returns the claim state, jobs and attempts that the test sets."""

    def __init__(self):
        self.state = ClaimState.STARTED
        self.known = []
        self.claimed = ()

    async def jobs(self, job_ids):
        return [KnownJob(job=job, at=AT, status=Status.RUNNING, due=AT, cancel_at=None) for job in self.known]

    async def attempts(self, job):
        return self.claimed

    async def claim_state(self, command):
        return self.state


class FakeWorkerStore:
    """Returns the announced versions that the test sets."""

    def __init__(self):
        self.announced = frozenset()

    async def versions(self, job_type, *, queue, within):
        assert (SUBMITTED.type, SUBMITTED.queue) == (job_type, queue)
        return self.announced


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def workers():
    return FakeWorkerStore()


@pytest.fixture
def dead_letter_handler(publisher, poisons, store, workers):
    return DeadLetterHandler(TRUST, publisher, poisons, store, workers)


async def test_a_job_over_the_delivery_limit_is_quarantined(dead_letter_handler, publisher):
    """It may only have run beside a job that kills its workers."""
    await dead_letter_handler.handle([FakeDelivery(COMMAND)])
    (event,) = publisher.events
    assert ("job.quarantined", ID, "queued") == (event.fact, event.job.id, event.status)
    assert event.sequence > JobStarted(job=SUBMITTED.model_copy(update={"delivery": 99})).sequence


async def test_a_job_dead_lettered_from_quarantine_fails(dead_letter_handler, publisher):
    """It fails as `dead_lettered`, with a delivery number above those of all its events."""
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"delivery": 100, "quarantined": 100}))
    await dead_letter_handler.handle([FakeDelivery(quarantined)])
    (event,) = publisher.events
    assert ("job.failed", "dead_lettered", AT) == (event.fact, event.job.error.kind, event.job.finished_at)
    assert event.sequence > JobStarted(job=SUBMITTED.model_copy(update={"delivery": 199})).sequence


async def test_a_job_that_never_started_in_quarantine_is_quarantined_again(dead_letter_handler, publisher, store):
    """RabbitMQ before 4.3 counts restarts as deliveries; for a job that only waited, the count is no evidence."""
    store.state = ClaimState.WAITING
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"delivery": 100, "quarantined": 100}))
    await dead_letter_handler.handle([FakeDelivery(quarantined)])
    (event,) = publisher.events
    assert ("job.quarantined", 200) == (event.fact, event.job.delivery)


async def test_a_dead_lettered_job_keeps_its_attempts(dead_letter_handler, publisher, store):
    """The message does not contain attempts whose worker died; the view has recorded their start."""
    store.known = [RUNNING.model_copy(update={"id": ID})]
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"delivery": 100, "quarantined": 100}))
    await dead_letter_handler.handle([FakeDelivery(COMMAND), FakeDelivery(quarantined)])
    for event in publisher.events:
        assert (RUNNING.attempt, RUNNING.started_at) == (event.job.attempt, event.job.started_at)
        assert "lost" == event.job.attempts[-1].why


async def test_attempts_without_a_started_event_are_taken_from_the_claim(dead_letter_handler, publisher, store):
    """If a handler kills its worker before the event is published, the claim still names the worker."""
    store.known = [SUBMITTED]
    store.claimed = tuple(Attempt(number=number, worker=f"w{number}", started_at=AT) for number in (1, 2))
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"delivery": 100, "quarantined": 100}))
    await dead_letter_handler.handle([FakeDelivery(quarantined)])
    (event,) = publisher.events
    assert (2, AT) == (event.job.attempt, event.job.started_at)
    assert [("w1", "lost"), ("w2", "lost")] == [(one.worker, one.why) for one in event.job.attempts]


async def test_a_job_with_a_live_claim_is_postponed(dead_letter_handler, publisher, store):
    """Redeliveries that only found it claimed do not end a job; the processor that runs it publishes its end."""
    store.state = ClaimState.HELD
    for quarantined in (0, 100):
        job = SUBMITTED.model_copy(update={"quarantined": quarantined})
        await dead_letter_handler.handle([FakeDelivery(JobSubmitted(job=job))])
    assert ["job.postponed", "job.postponed"] == [event.fact for event in publisher.events]
    assert [0, 100] == [event.job.quarantined for event in publisher.events]
    assert timedelta(0) < publisher.events[0].delay <= timedelta(seconds=5)
    assert publisher.events[0].job.redelivered > TOPOLOGY.delivery_limit, "it comes back, and does not run meanwhile"


async def test_a_message_of_an_ended_job_is_discarded(dead_letter_handler, publisher, store):
    """The job's end was published before; the message is outdated."""
    store.state = ClaimState.OVER
    await dead_letter_handler.handle([FakeDelivery(COMMAND)])
    assert [] == publisher.events


async def test_deliveries_before_a_postponement_count_towards_the_limit(dead_letter_handler, publisher):
    """The processor adds them up and rejects the message; the handler then treats it as over the delivery limit."""
    postponed = SUBMITTED.model_copy(update={"delivery": 4, "redelivered": 4, "run_at": AT})
    await dead_letter_handler.handle([FakeDelivery(JobPostponed(job=postponed), reason="rejected")])
    again = postponed.model_copy(update={"quarantined": 100})
    await dead_letter_handler.handle([FakeDelivery(JobPostponed(job=again), reason="rejected")])
    assert ["job.quarantined", "job.failed"] == [event.fact for event in publisher.events]
    assert (104, 0) == (publisher.events[0].job.quarantined, publisher.events[0].job.redelivered)


async def test_a_rejected_job_fails_if_no_live_processor_has_announced_its_type(dead_letter_handler, publisher):
    """It says so, and for how long that has been true."""
    await dead_letter_handler.handle([FakeDelivery(COMMAND, reason="rejected")])
    (event,) = publisher.events
    assert ("job.failed", "dead_lettered") == (event.fact, event.job.error.kind)
    why = "No live processor of the queue default has announced the type digest-files in the last 5 minutes."
    assert event.job.error.message.endswith(why)


@pytest.mark.parametrize("announced", [None, frozenset({"v2"})], ids=["not known", "announced"])
@pytest.mark.parametrize("quarantined", [0, 100])
async def test_a_rejected_job_is_put_off_while_a_live_processor_may_run_it(
    dead_letter_handler, publisher, workers, announced, quarantined
):
    """An older processor on the same queue does not know its type. It goes back to the queue that it came from."""
    workers.announced = announced
    job = SUBMITTED.model_copy(update={"quarantined": quarantined})
    await dead_letter_handler.handle([FakeDelivery(JobSubmitted(job=job), reason="rejected")])
    (event,) = publisher.events
    assert ("job.postponed", AT, quarantined) == (event.fact, event.job.put_off.since, event.job.quarantined)
    assert timedelta(0) < event.delay <= timedelta(seconds=30)
    assert event == decode_event(encode(event))


async def test_a_job_stays_put_off_since_the_first_time(dead_letter_handler, publisher, workers):
    """The time that nobody could run it adds up, and its other facts stay."""
    workers.announced = frozenset({"v2"})
    earlier = PutOff(since=AT - timedelta(minutes=6), until=AT, refusal="no")
    job = SUBMITTED.model_copy(
        update={"put_off": earlier, "run_at": AT, "retried": 2, "attempt": 3, "type_version": "v2"}
    )
    await dead_letter_handler.handle([FakeDelivery(JobPostponed(job=job), reason="rejected")])
    job_after = publisher.events[0].job
    assert (earlier.since, "no") == (job_after.put_off.since, job_after.put_off.refusal)
    assert (AT, 2, 3) == (job_after.run_at, job_after.retried, job_after.attempt)


@pytest.mark.parametrize("announced, fails", [({"v1", "v2"}, False), ({"v2"}, True)])
async def test_refused_params_fail_when_no_live_processor_runs_the_version_they_were_checked_against(
    dead_letter_handler, publisher, workers, announced, fails
):
    """The error is `invalid-params` and contains the refusal, not that its worker died."""
    workers.announced = frozenset(announced)
    refused = PutOff(since=AT, until=AT, refusal="'currency' was unexpected")
    job = SUBMITTED.model_copy(update={"type_version": "v1", "put_off": refused, "run_at": AT})
    await dead_letter_handler.handle([FakeDelivery(JobPostponed(job=job), reason="rejected")])
    (event,) = publisher.events
    assert fails == (event.fact == "job.failed")
    if fails:
        assert "invalid-params" == event.job.error.kind
        assert "'currency' was unexpected" in event.job.error.message


async def test_handling_a_message_twice_publishes_the_same_event(dead_letter_handler, publisher):
    """If a tracker dies before its acknowledgement, the next one publishes the identical event."""
    delivery = FakeDelivery(COMMAND, reason="rejected")
    await dead_letter_handler.handle([delivery])
    await dead_letter_handler.handle([delivery])
    assert encode(publisher.events[0]) == encode(publisher.events[1])


@pytest.mark.parametrize("message", [b"garbage", SAMPLES[1], b"\\xff" * 1000], ids=["garbage", "event", "bytes"])
async def test_an_unreadable_message_is_kept_and_recorded(dead_letter_handler, publisher, poisons, message):
    """With its source queue and the reason; the rest of the batch is processed."""
    await dead_letter_handler.handle([bad := FakeDelivery(message), FakeDelivery(COMMAND)])
    ((kept, queue, reason),) = publisher.poison
    assert (bad.received.body, "work.default") == (kept, queue)
    assert reason
    assert publisher.poison == poisons.recorded
    assert 1 == len(publisher.events)


async def test_a_message_dead_lettered_by_the_tracker_names_its_source_queue(dead_letter_handler, publisher):
    """The tracker sets `x-first-queue`; only the broker sets `x-death`."""
    delivery = FakeDelivery(b"{}")
    delivery.headers = {"x-first-queue": "tracker.progress"}
    await dead_letter_handler.handle([delivery])
    assert "tracker.progress" == publisher.poison[0][1]


@pytest.mark.parametrize(
    "time",
    [AT.replace(year=1), AT.replace(year=9999), AT.replace(tzinfo=None), AT.timestamp() * 10**9, "yesterday", None],
    ids=["year 1", "year 9999", "no time zone", "far away", "text", "none"],
)
async def test_an_odd_time_in_a_header_ends_no_tracker(dead_letter_handler, publisher, time):
    """A publisher may have written the header; the event has the present time then."""
    before = now()
    await dead_letter_handler.handle(
        [FakeDelivery(COMMAND, **{"x-death": [{"reason": "delivery_limit", "time": time}]})]
    )
    (event,) = publisher.events
    assert before <= event.time <= now()


@pytest.mark.parametrize("user", ["processor", None])
async def test_a_command_that_is_not_believed_is_kept_and_nothing_follows_on_it(
    dead_letter_handler, publisher, poisons, user
):
    """What the tracker publishes has its own user: it must vouch for nothing that it did not check."""
    delivery = FakeDelivery(COMMAND)
    delivery.received = delivery.received._replace(user_id=user)
    await dead_letter_handler.handle([delivery])
    ((_, _, reason),) = publisher.poison
    assert ([], 1, True) == (publisher.events, len(poisons.recorded), "user" in reason)


async def test_what_a_tracker_has_set_aside_is_kept_for_its_reason(dead_letter_handler, publisher):
    """Whatever it says: the copy has no sender."""
    await dead_letter_handler.handle([FakeDelivery(COMMAND, **{"x-reason": "refused before"})])
    assert ([], "refused before") == (publisher.events, publisher.poison[0][2])


@settings(max_examples=200)
@given(
    believed_events(COMMANDS),
    st.sampled_from(ClaimState),
    st.sampled_from(["rejected", "delivery_limit"]),
    st.sampled_from([None, frozenset(), frozenset({"other"})]),
    MOMENTS,
)
def test_whatever_follows_on_a_dead_lettered_command_is_valid(command, state, reason, versions, died_at):
    """Whatever the command states, so long as it is believed, and whatever the headers: nothing raises."""
    publisher, poisons, store, workers = FakeEventPublisher(), FakePoisonStore(), FakeStore(), FakeWorkerStore()
    store.state, workers.announced = state, versions
    delivery = FakeDelivery(command, reason)
    delivery.headers["x-death"][0]["time"] = died_at
    assert [] == asyncio.run(DeadLetterHandler(TRUST, publisher, poisons, store, workers).handle([delivery]))
    assert [] == publisher.poison
    assert all(readable(event) for event in publisher.events)


async def test_a_delivery_number_near_the_highest_ends_no_tracker(dead_letter_handler, publisher, workers):
    """A processor may state it of its own job, and reject that; the job is put off like any other."""
    workers.announced = frozenset({"any"})
    near = JobInterrupted(job=SUBMITTED.model_copy(update={"delivery": 9_999_950, "attempt": 1}))
    await dead_letter_handler.handle([FakeDelivery(near, "rejected")])
    (event,) = publisher.events
    assert (JobPostponed, MAX_STATED_DELIVERY) == (type(event), event.job.delivery)


async def test_a_job_with_the_highest_delivery_number_ends(dead_letter_handler, publisher):
    """Nothing could follow on it that sorts after it: it would be put off or quarantined for ever."""
    highest = JobInterrupted(job=SUBMITTED.model_copy(update={"delivery": MAX_STATED_DELIVERY, "attempt": 1}))
    await dead_letter_handler.handle([FakeDelivery(highest)])
    (event,) = publisher.events
    assert ("failed", "dead_lettered") == (event.status, event.job.error.kind)


@pytest.mark.parametrize("fault", [ValueError("odd"), OverflowError("odd"), KeyError("odd"), TypeError("odd")])
async def test_a_message_that_can_not_be_handled_is_kept_alone(
    dead_letter_handler, publisher, poisons, store, monkeypatch, fault
):
    """With the true reason; its neighbours are handled, and the tracker goes on."""
    odd = JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2}))

    async def claim_state(command):
        if command.run == odd.job.run:
            raise fault
        return ClaimState.STARTED

    monkeypatch.setattr(store, "claim_state", claim_state)
    await dead_letter_handler.handle([FakeDelivery(odd), FakeDelivery(COMMAND)])
    assert [JobQuarantined] == [type(event) for event in publisher.events]
    ((_, _, reason),) = publisher.poison
    assert f"an error in the tracker: {type(fault).__name__}: {fault}" == reason
