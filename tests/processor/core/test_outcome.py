"""Jobs that do not end in their first attempt: redelivered, retried, interrupted, postponed or expired."""

from datetime import timedelta

import pytest
from odd_handlers import FIRST, command, facts
from samples import JUST_SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import encode_event
from milepost_contracts.status.ends import expired
from milepost_contracts.values import Attempt
from milepost_processor.core.runner import Delivery
from milepost_processor.errors import DeliveredTooOften


def test_the_events_of_a_redelivery_have_a_higher_sequence(runner, publisher):
    """The delivery number is the broker's count: the order holds even if Redis loses the claim."""
    runner.execute(command(do="raise"), FIRST)
    started = publisher.events[0]
    runner._claims.claims.clear()
    runner.execute(command(), Delivery(count=1))
    assert 2 == publisher.events[-1].job.delivery
    assert started.sequence < publisher.events[-2].sequence


def test_a_new_message_continues_the_delivery_number(runner, publisher):
    """A retry is a new message; its delivery number starts where the old one ended."""
    runner.execute(command(delivery=3, attempt=2), Delivery(count=1))
    assert (5, 3) == (publisher.events[-1].job.delivery, publisher.events[-1].job.attempt)


def test_an_interrupted_job_is_requeued_and_its_next_attempt_has_the_next_number(runner, publisher):
    """No reader sees the number go back. The interrupted attempt uses up no retry."""
    runner.execute(command(do="interrupt"), FIRST)
    assert ["job.started", "job.interrupted"] == facts(publisher)
    requeued = publisher.events[-1]
    assert ("queued", 1, 0) == (requeued.status, requeued.job.attempt, requeued.job.retried)
    assert ["interrupted"] == [one.why for one in requeued.job.attempts]
    runner.execute(requeued, FIRST)
    assert ("job.interrupted", 2) == (publisher.events[-1].fact, publisher.events[-1].job.delivery)
    assert [1, 2] == [one.number for one in publisher.events[-1].job.attempts]


def test_a_failed_attempt_is_retried_until_no_retries_are_left(runner, publisher):
    """Each delay is about twice the one before; the last failure ends the job."""
    runner.execute(command("retried", do="raise"), FIRST)
    pauses = []
    for _ in range(2):
        retrying = publisher.events[-1]
        assert ("job.retrying", "retrying", "exception") == (retrying.fact, retrying.status, retrying.job.error.kind)
        pauses.append(retrying.delay)
        runner.execute(retrying, FIRST)
    ended = publisher.events[-1]
    assert ("job.failed", 3, 3) == (ended.fact, ended.job.attempt, ended.job.delivery)
    assert [1, 2, 3] == [one.number for one in ended.job.attempts]
    assert timedelta(seconds=5) <= pauses[0] <= timedelta(seconds=10) <= pauses[1] <= timedelta(seconds=20)
    assert sorted(one.sequence for one in publisher.events) == [one.sequence for one in publisher.events]


def test_the_next_attempt_has_the_saved_state_of_the_last_one(runner, publisher):
    """`RetryLater` does not use up a retry."""
    runner.execute(command(do="later"), FIRST)
    retrying = publisher.events[-1]
    assert ("job.retrying", {"at": 7}, 0) == (retrying.fact, retrying.job.saved_state, retrying.job.retried)
    assert timedelta(minutes=5) - timedelta(seconds=1) <= retrying.delay <= timedelta(minutes=5)
    assert "not yet" == retrying.job.error.message
    runs = []
    report = publisher.report
    publisher.report = lambda run, **events: (runs.append(run), report(run, **events))
    runner.execute(retrying, FIRST)
    assert ({"at": 7}, 2) == (runs[0].saved_state, runs[0].attempt)


@pytest.mark.parametrize(
    "do, fact, kind", [("reject", "job.failed", "rejected"), ("timeout", "job.retrying", "timeout")]
)
def test_a_timeout_is_retried_and_a_rejection_is_not(runner, publisher, do, fact, kind):
    """`Reject` is final; the next attempt may be faster."""
    runner.execute(command("retried", do=do), FIRST)
    assert (fact, kind) == (publisher.events[-1].fact, publisher.events[-1].job.error.kind)


def test_a_superseded_attempt_publishes_no_outcome(runner, publisher):
    """Its events would lose against those of the newer attempt anyway."""
    runner.execute(command(do="superseded"), FIRST)
    assert ["job.started"] == facts(publisher)


def test_a_job_that_was_not_started_in_time_expires(runner, publisher):
    """The handler is not called. The time counts from `run_at` where the job has one."""
    past = now() - timedelta(days=9)
    runner.execute(command(created_at=past), FIRST)
    ended = publisher.events[-1]
    assert ("job.failed", "expired") == (ended.fact, ended.job.error.kind)
    assert (0, None, ()) == (ended.job.attempt, ended.job.started_at, ended.job.attempts)
    assert encode_event(expired(command(created_at=past).job)) == encode_event(ended), "the tracker may publish it too"
    runner.execute(command(id="other", created_at=past, run_at=now()), FIRST)
    assert "job.succeeded" == publisher.events[-1].fact


def test_a_run_at_in_the_past_means_now(runner, publisher):
    """It may be years ago."""
    runner.execute(command(run_at=now() - timedelta(days=3_000)), FIRST)
    assert "job.succeeded" == publisher.events[-1].fact


def test_a_job_that_expired_and_was_not_acknowledged_expires_again(runner, publisher, claims):
    """The processor died before the acknowledgement: the redelivery must not run the job."""
    late = command(created_at=now() - timedelta(days=9))
    claims.claim(late.job, delivery=1, execution="aaaaaaaa", worker="w")
    runner.execute(late, Delivery(count=1, failed=1))
    assert ["job.failed"] == facts(publisher)
    assert "expired" == publisher.events[-1].job.error.kind


def test_a_job_that_was_started_in_time_is_retried_at_any_time(runner, publisher):
    """`start_within` limits only the first start."""
    created = now() - timedelta(days=9)
    in_time = Attempt(number=1, worker="w", started_at=created, ended_at=created, why="exception")
    runner.execute(command(created_at=created, attempt=1, attempts=(in_time,), delivery=1), FIRST)
    assert "job.succeeded" == publisher.events[-1].fact


def test_late_progress_has_a_lower_sequence_than_the_outcome(runner, publisher):
    """The event publisher may build a progress event after the outcome was built and before it is published."""
    progress = []
    report = publisher.report
    publisher.report = lambda run, **events: (progress.append(events["progressed"]), report(run, **events))
    for do in ("raise", "later", "interrupt"):
        runner.execute(command("retried", id=do, do=do), FIRST)
        assert progress[-1]().sequence < publisher.events[-1].sequence


def test_a_redelivery_is_postponed_while_the_claiming_processor_is_alive(runner, publisher, claims):
    """The job runs once, however often it is delivered; if its processor dies, the next delivery takes over."""
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    claims.alive.add(JUST_SUBMITTED.id)
    runner.execute(command(), Delivery(count=1))
    (postponed,) = publisher.events
    assert ("job.postponed", 2) == (postponed.fact, postponed.job.delivery)
    assert timedelta(seconds=2) < postponed.delay <= timedelta(seconds=3)
    claims.alive.clear()
    runner.execute(postponed, FIRST)
    ended = publisher.events[-1]
    assert ("job.succeeded", 3, 2) == (ended.fact, ended.job.delivery, ended.job.attempt)
    assert ["lost", "succeeded"] == [one.why for one in ended.job.attempts]


def test_a_quarantined_job_that_is_postponed_stays_in_quarantine(runner, publisher, claims):
    """It may crash its workers, so it does not return to the work queue."""
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    claims.alive.add(JUST_SUBMITTED.id)
    runner.execute(command(quarantined=1), Delivery(count=1))
    (postponed,) = publisher.events
    assert postponed.job.quarantined
    assert postponed.routing_key.startswith("job.postponed-in-quarantine.")


def test_failed_deliveries_count_across_a_postponement(runner, publisher, claims):
    """The broker's count starts again with each message; `redelivered` does not, so the job is dead-lettered."""
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    claims.alive.add(JUST_SUBMITTED.id)
    runner.execute(command(), Delivery(count=1, failed=1))
    runner.execute(publisher.events[-1], Delivery(count=2, failed=2))
    assert 3 == publisher.events[-1].job.redelivered
    runner.execute(publisher.events[-1], Delivery(count=1, failed=1))
    assert 4 == publisher.events[-1].job.redelivered, "too often, but its processor is alive"
    claims.alive.clear()
    with pytest.raises(DeliveredTooOften):
        runner.execute(publisher.events[-1], FIRST)
    assert 1 == claims.claims[JUST_SUBMITTED.id].delivery, "it was not claimed"
