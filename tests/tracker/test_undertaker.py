"""What the broker gave up: another chance, or an end with a reason; and nothing is thrown away."""

from datetime import UTC, timedelta

import pytest
from samples import AT, ID, RUNNING, SAMPLES, SUBMITTED

from milepost_contracts.envelope import encode
from milepost_contracts.events import JobPostponed, JobQuarantined, JobStarted, JobSubmitted
from milepost_contracts.states import Status
from milepost_contracts.topology import Topology
from milepost_contracts.values import Attempt
from milepost_tracker.ports import Known, Standing
from milepost_tracker.undertaker import Undertaker

TOPOLOGY = Topology()
COMMAND = JobSubmitted(job=SUBMITTED)


class FakeDelivery:
    queue = "parked"

    def __init__(self, body, reason="delivery_limit", queue="work.default", **headers):
        self.body = body
        self.headers = {"x-death": [{"reason": reason, "queue": queue, "time": AT}], **headers}


class FakeOutbox:
    def __init__(self):
        self.events = []
        self.poison = []

    async def deliver(self, event):
        self.events.append(event)

    async def keep_poison(self, body, *, queue, reason):
        self.poison.append((body, queue, reason))


class FakePoisons:
    def __init__(self):
        self.recorded = []

    async def record_poison(self, body, *, queue, reason, at):
        assert at.tzinfo is UTC
        self.recorded.append((body, queue, reason))


@pytest.fixture
def outbox():
    return FakeOutbox()


@pytest.fixture
def poisons():
    return FakePoisons()


class FakeStore:
    """Says of every job what the test wants."""

    def __init__(self):
        self.said = Standing.STARTED
        self.jobs = []
        self.attempts = ()

    async def known(self, job_ids):
        return [Known(job=job, at=AT, status=Status.RUNNING, due=AT, cancel_at=None) for job in self.jobs]

    async def claimed(self, job):
        return self.attempts

    async def standing(self, command):
        return self.said


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def undertaker(outbox, poisons, store):
    return Undertaker(outbox, poisons, store)


async def test_a_job_that_was_delivered_too_often_gets_one_more_chance(undertaker, outbox):
    """In quarantine: it may only have been beside one that kills its workers."""
    await undertaker.settle([FakeDelivery(encode(COMMAND))])
    (event,) = outbox.events
    assert ("job.quarantined", ID, "queued") == (event.fact, event.job.id, event.status)
    assert event.sequence > JobStarted(job=SUBMITTED.model_copy(update={"turn": 99})).sequence


async def test_a_job_that_comes_back_from_quarantine_is_given_up(undertaker, outbox):
    """It ends, with a reason, and with a turn beyond all that was ever said of it."""
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"turn": 100, "quarantined": 100}))
    await undertaker.settle([FakeDelivery(encode(quarantined))])
    (event,) = outbox.events
    assert ("job.failed", "dead_lettered", AT) == (event.fact, event.job.error.kind, event.job.finished_at)
    assert event.sequence > JobStarted(job=SUBMITTED.model_copy(update={"turn": 199})).sequence


async def test_a_job_that_was_never_started_in_quarantine_gets_another_chance(undertaker, outbox, store):
    """Restarts count as deliveries (RabbitMQ before 4.3): of a job that was only waiting they say nothing."""
    store.said = Standing.WAITS
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"turn": 100, "quarantined": 100}))
    await undertaker.settle([FakeDelivery(encode(quarantined))])
    (event,) = outbox.events
    assert ("job.quarantined", 200) == (event.fact, event.job.turn)


async def test_what_is_given_up_still_tells_of_its_attempts(undertaker, outbox, store):
    """The message knows of none that died; the view has seen them start."""
    store.jobs = [RUNNING.model_copy(update={"id": ID})]
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"turn": 100, "quarantined": 100}))
    await undertaker.settle([FakeDelivery(encode(COMMAND)), FakeDelivery(encode(quarantined))])
    for event in outbox.events:
        assert (RUNNING.attempt, RUNNING.started_at) == (event.job.attempt, event.job.started_at)
        assert "lost" == event.job.attempts[-1].why


async def test_attempts_that_died_before_anybody_was_told_of_them_are_told_of_in_the_end(undertaker, outbox, store):
    """A handler that ends its worker at once: the claim names the workers whose logs say more."""
    store.jobs = [SUBMITTED]
    store.attempts = tuple(Attempt(number=number, worker=f"w{number}", started_at=AT) for number in (1, 2))
    quarantined = JobQuarantined(job=SUBMITTED.model_copy(update={"turn": 100, "quarantined": 100}))
    await undertaker.settle([FakeDelivery(encode(quarantined))])
    (event,) = outbox.events
    assert (2, AT) == (event.job.attempt, event.job.started_at)
    assert [("w1", "lost"), ("w2", "lost")] == [(one.worker, one.why) for one in event.job.attempts]


async def test_a_job_whose_holder_lives_is_put_off(undertaker, outbox, store):
    """Deliveries that only found it held are no reason to end it; its holder speaks for it."""
    store.said = Standing.HELD
    for quarantined in (0, 100):
        job = SUBMITTED.model_copy(update={"quarantined": quarantined})
        await undertaker.settle([FakeDelivery(encode(JobSubmitted(job=job)))])
    assert ["job.postponed", "job.postponed"] == [event.fact for event in outbox.events]
    assert [0, 100] == [event.job.quarantined for event in outbox.events]
    assert timedelta(0) < outbox.events[0].delay <= timedelta(seconds=5)
    assert outbox.events[0].job.redelivered > TOPOLOGY.delivery_limit, "it comes back, and does not run meanwhile"


async def test_nothing_is_said_of_a_job_that_is_over(undertaker, outbox, store):
    """Its end was told; the message is a left-over."""
    store.said = Standing.OVER
    await undertaker.settle([FakeDelivery(encode(COMMAND))])
    assert [] == outbox.events


async def test_a_job_that_was_put_off_in_between_counts_all_its_deliveries(undertaker, outbox):
    """The processor counts them then, and rejects it; in quarantine as before."""
    put_off = SUBMITTED.model_copy(update={"turn": 4, "redelivered": 4, "run_at": AT})
    await undertaker.settle([FakeDelivery(encode(JobPostponed(job=put_off)), reason="rejected")])
    again = put_off.model_copy(update={"quarantined": 100})
    await undertaker.settle([FakeDelivery(encode(JobPostponed(job=again)), reason="rejected")])
    assert ["job.quarantined", "job.failed"] == [event.fact for event in outbox.events]
    assert (104, 0) == (outbox.events[0].job.quarantined, outbox.events[0].job.redelivered)


async def test_a_job_that_no_processor_knows_is_given_up_at_once(undertaker, outbox):
    """Another delivery would change nothing."""
    await undertaker.settle([FakeDelivery(encode(COMMAND), reason="rejected")])
    assert "job.failed" == outbox.events[0].fact
    assert "no processor of the queue default knows its type" in outbox.events[0].job.error.message


async def test_what_is_said_twice_is_the_same_event(undertaker, outbox):
    """An undertaker that dies before its acknowledgement is followed by one that says the very same."""
    delivery = FakeDelivery(encode(COMMAND), reason="rejected")
    await undertaker.settle([delivery])
    await undertaker.settle([delivery])
    assert encode(outbox.events[0]) == encode(outbox.events[1])


@pytest.mark.parametrize("body", [b"garbage", encode(SAMPLES[1]), b"\\xff" * 1000])
async def test_what_can_not_be_read_is_kept_and_told_of(undertaker, outbox, poisons, body):
    """With where it came from and why; the rest of the batch goes on."""
    await undertaker.settle([FakeDelivery(body), FakeDelivery(encode(COMMAND))])
    ((kept, queue, reason),) = outbox.poison
    assert (body, "work.default") == (kept, queue)
    assert reason
    assert outbox.poison == poisons.recorded
    assert 1 == len(outbox.events)


async def test_what_the_tracker_parked_itself_says_where_it_came_from(undertaker, outbox):
    """A queue that sheds its oldest has no death of the broker's making."""
    delivery = FakeDelivery(b"{}")
    delivery.headers = {"x-first-queue": "tracker.progress"}
    await undertaker.settle([delivery])
    assert "tracker.progress" == outbox.poison[0][1]
