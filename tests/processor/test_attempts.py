"""A job that does not end at once: redelivered, retried, put back, put off, or too late to begin."""

from datetime import timedelta

import pytest
from odd_handlers import FIRST, command, facts
from samples import SUBMITTED

from milepost_contracts.document import expired
from milepost_contracts.envelope import now
from milepost_contracts.values import Attempt
from milepost_processor.errors import DeliveredTooOften
from milepost_processor.executor import Delivery


def test_a_redelivery_is_the_next_attempt_and_its_events_win(executor, outbox):
    """The attempt comes from the broker's count: Redis may forget, the order stays."""
    executor.execute(command(do="raise"), FIRST)
    outbox_before = outbox.events[0]
    executor._gate.claims.clear()
    executor.execute(command(), Delivery(count=1))
    assert 2 == outbox.events[-1].job.turn
    assert outbox_before.sequence < outbox.events[-2].sequence


def test_turns_taken_before_the_message_count_too(executor, outbox):
    """A retry is a new message, and goes on counting where the old one ended."""
    executor.execute(command(turn=3, attempt=2), Delivery(count=1))
    assert (5, 3) == (outbox.events[-1].job.turn, outbox.events[-1].job.attempt)


def test_an_interrupted_job_is_put_back_and_the_attempt_does_not_count(executor, outbox):
    """One message says so and lies in the work queue again; the old one is acknowledged after it is confirmed."""
    executor.execute(command(do="interrupt"), FIRST)
    assert ["job.started", "job.interrupted"] == facts(outbox)
    back = outbox.events[-1]
    assert ("queued", 0, 1) == (back.status, back.job.attempt, back.job.turn)
    assert ["interrupted"] == [one.why for one in back.job.attempts]
    executor.execute(back, FIRST)
    assert ("job.interrupted", 2) == (outbox.events[-1].fact, outbox.events[-1].job.turn)
    assert [1, 1] == [one.number for one in outbox.events[-1].job.attempts]


def test_a_failed_attempt_is_retried_until_its_retries_are_used_up(executor, outbox):
    """Each time about twice as long after; the last failure is the end."""
    executor.execute(command("retried", do="raise"), FIRST)
    pauses = []
    for _ in range(2):
        retrying = outbox.events[-1]
        assert ("job.retrying", "retrying", "exception") == (retrying.fact, retrying.status, retrying.job.error.kind)
        pauses.append(retrying.delay)
        executor.execute(retrying, FIRST)
    ended = outbox.events[-1]
    assert ("job.failed", 3, 3) == (ended.fact, ended.job.attempt, ended.job.turn)
    assert [1, 2, 3] == [one.number for one in ended.job.attempts]
    assert timedelta(seconds=5) <= pauses[0] <= timedelta(seconds=10) <= pauses[1] <= timedelta(seconds=20)
    assert sorted(one.sequence for one in outbox.events) == [one.sequence for one in outbox.events]


def test_the_next_attempt_has_what_the_last_one_saved(executor, outbox):
    """And RetryLater uses up no retry."""
    executor.execute(command(do="later"), FIRST)
    retrying = outbox.events[-1]
    assert ("job.retrying", {"at": 7}, 0) == (retrying.fact, retrying.job.saved_state, retrying.job.retried)
    assert timedelta(minutes=5) - timedelta(seconds=1) <= retrying.delay <= timedelta(minutes=5)
    assert "not yet" == retrying.job.error.message
    runs = []
    follow = outbox.follow
    outbox.follow = lambda run, **events: (runs.append(run), follow(run, **events))
    executor.execute(retrying, FIRST)
    assert ({"at": 7}, 2) == (runs[0].saved_state, runs[0].attempt)


@pytest.mark.parametrize(
    "do, fact, kind", [("reject", "job.failed", "rejected"), ("timeout", "job.retrying", "timeout")]
)
def test_what_is_worth_another_attempt(executor, outbox, do, fact, kind):
    """Rejected is for good; what took too long may be luckier."""
    executor.execute(command("retried", do=do), FIRST)
    assert (fact, kind) == (outbox.events[-1].fact, outbox.events[-1].job.error.kind)


def test_an_attempt_that_another_one_has_taken_over_says_nothing(executor, outbox):
    """Its events would be fenced anyway."""
    executor.execute(command(do="superseded"), FIRST)
    assert ["job.started"] == facts(outbox)


def test_a_job_that_was_not_started_in_time_expires(executor, outbox):
    """Without calling the handler; but one that was started before goes on."""
    late = now() - timedelta(days=9)
    executor.execute(command(created_at=late), FIRST)
    ended = outbox.events[-1]
    assert ("job.failed", "expired") == (ended.fact, ended.job.error.kind)
    assert (0, None, ()) == (ended.job.attempt, ended.job.started_at, ended.job.attempts)
    assert ended.sequence == expired(command(created_at=late).job).sequence, "the tracker may have said the same before"
    executor.execute(command(id="other", created_at=late, run_at=now()), FIRST)
    assert "job.succeeded" == outbox.events[-1].fact


def test_a_time_to_run_at_that_was_over_long_ago_means_now(executor, outbox):
    """However long ago."""
    executor.execute(command(run_at=now() - timedelta(days=3_000)), FIRST)
    assert "job.succeeded" == outbox.events[-1].fact


def test_a_job_that_expired_and_was_not_acknowledged_expires_again(executor, outbox, gate):
    """Its first processor said so, and died before its acknowledgement: the redelivery must not run it after all."""
    late = command(created_at=now() - timedelta(days=9))
    gate.claim(late.job, turn=1, execution="aaaaaaaa", worker="w")
    executor.execute(late, Delivery(count=1, failed=1))
    assert ["job.failed"] == facts(outbox)
    assert "expired" == outbox.events[-1].job.error.kind


def test_a_job_that_was_started_in_time_is_tried_again_however_late(executor, outbox):
    """Whoever asked for a job to be started in time asked for its first start."""
    created = now() - timedelta(days=9)
    in_time = Attempt(number=1, worker="w", started_at=created, ended_at=created, why="exception")
    executor.execute(command(created_at=created, attempt=1, attempts=(in_time,), turn=1), FIRST)
    assert "job.succeeded" == outbox.events[-1].fact


def test_progress_that_is_still_on_its_way_does_not_undo_a_retry(executor, outbox):
    """The courier may build an event after the outcome was built, and before it is published."""
    late = []
    follow = outbox.follow
    outbox.follow = lambda run, **events: (late.append(events["progressed"]), follow(run, **events))
    for do in ("raise", "later", "interrupt"):
        executor.execute(command("retried", id=do, do=do), FIRST)
        assert late[-1]().sequence < outbox.events[-1].sequence


def test_a_job_whose_holder_lives_is_put_off(executor, outbox, gate):
    """It runs once, however often it is delivered; should its holder die, the next delivery may take over."""
    gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w")
    gate.alive.add(SUBMITTED.id)
    executor.execute(command(), Delivery(count=1))
    (postponed,) = outbox.events
    assert ("job.postponed", 2) == (postponed.fact, postponed.job.turn)
    assert timedelta(seconds=2) < postponed.delay <= timedelta(seconds=3)
    gate.alive.clear()
    executor.execute(postponed, FIRST)
    ended = outbox.events[-1]
    assert ("job.succeeded", 3, 2) == (ended.fact, ended.job.turn, ended.job.attempt)
    assert ["lost", "succeeded"] == [one.why for one in ended.job.attempts]


def test_a_quarantined_job_that_is_put_off_stays_in_quarantine(executor, outbox, gate):
    """It may be one that harms its neighbours: it does not come back among them."""
    gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w")
    gate.alive.add(SUBMITTED.id)
    executor.execute(command(quarantined=1), Delivery(count=1))
    (postponed,) = outbox.events
    assert postponed.job.quarantined
    assert postponed.routing_key.startswith("job.postponed-in-quarantine.")


def test_deliveries_are_counted_beyond_the_message_that_was_put_off(executor, outbox, gate):
    """The broker counts each message anew: a job that kills its workers would never be given up."""
    gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w")
    gate.alive.add(SUBMITTED.id)
    executor.execute(command(), Delivery(count=1, failed=1))
    executor.execute(outbox.events[-1], Delivery(count=2, failed=2))
    assert 3 == outbox.events[-1].job.redelivered
    with pytest.raises(DeliveredTooOften):
        executor.execute(outbox.events[-1], Delivery(count=1, failed=1))
