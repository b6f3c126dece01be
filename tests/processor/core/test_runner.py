"""Claim → started → handler → outcome confirmed → ack: the order that laws 5 and 6 rest on."""

from datetime import timedelta

import pytest
from odd_handlers import FIRST, LEFT, command, facts
from samples import SUBMITTED, TRACE

from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import decode_event
from milepost_contracts.values import MAX_EVENT, MAX_STATED_DELIVERY, FileRef
from milepost_processor.core.runner import Delivery
from milepost_processor.errors import Stopping


@pytest.mark.parametrize("type", ["sync", "async"])
def test_a_job_is_claimed_started_run_and_its_outcome_confirmed(runner, publisher, claims, type):
    """This holds for sync and async handlers; when `execute` returns, the message may be acknowledged."""
    runner.execute(command(type), FIRST)
    started, ended = publisher.events
    assert ["job.started", "job.succeeded"] == facts(publisher)
    assert (1, "here", {"n": 42}) == (ended.job.attempt, ended.job.worker, ended.job.result)
    assert (1, 2, "half") == (ended.job.progress.done, ended.job.progress.total, ended.job.progress.message)
    assert (1, ({"n": 1},)) == (ended.job.items.count, ended.job.items.last)
    assert started.sequence < ended.sequence
    assert TRACE == started.traceparent == ended.traceparent
    runner.outcomes.record_confirmed()
    assert "ended" == claims.claims[SUBMITTED.id].state, "the claim is marked as ended"
    assert [] == publisher.reported_runs


@pytest.mark.parametrize(
    "type, do, fact, kind",
    [
        ("sync", "raise", "job.failed", "exception"),
        ("sync", "exit", "job.failed", "exception"),
        ("sync", "keyboard", "job.failed", "exception"),
        ("sync", "input", "job.failed", "input-error"),
        ("sync", "wrong", "job.failed", "invalid-result"),
        ("sync", "number", "job.failed", "exception"),
        ("sync", "control", "job.failed", "exception"),
        ("sync", "no-text", "job.failed", "exception"),
        ("sync", "own-stop", "job.failed", "exception"),
        ("sync", "nan", "job.failed", "exception"),
        ("sync", "generator", "job.failed", "invalid-result"),
        ("sync", "deep", "job.failed", "invalid-result"),
        ("sync", "cancel", "job.canceled", None),
        ("async", "exit", "job.failed", "exception"),
        ("async", "keyboard", "job.failed", "exception"),
        ("async", "raise", "job.failed", "exception"),
        ("async", "input", "job.failed", "input-error"),
        ("async", "wrong", "job.failed", "invalid-result"),
        ("async", "cancel", "job.canceled", None),
    ],
)
def test_every_end_of_a_handler_is_an_outcome_with_a_reason(runner, publisher, type, do, fact, kind):
    """The worker survives: `SystemExit` is an outcome too."""
    runner.execute(command(type, do=do), FIRST)
    ended = publisher.events[-1]
    assert (fact, kind) == (ended.fact, ended.job.error and ended.job.error.kind)
    assert ended == decode_event(encode(ended)), "it can be encoded and decoded"


def test_an_exception_is_reported_with_its_class_and_traceback(runner, publisher):
    """The author of the handler finds the line."""
    runner.execute(command(do="raise"), FIRST)
    error = publisher.events[-1].job.error
    assert "ValueError" == error.exception
    assert error.message.startswith("broken")
    assert "in behave" in error.traceback


def test_a_result_without_a_json_form_fails_the_job(runner, publisher):
    """Clients could not read it."""
    runner.execute(command("odd"), FIRST)
    assert "invalid-result" == publisher.events[-1].job.error.kind


def test_an_invalid_progress_message_does_not_fail_the_job(runner, publisher):
    """An unpaired surrogate in it is replaced."""
    runner.execute(command(do="surrogate"), FIRST)
    assert "job.succeeded" == publisher.events[-1].fact
    assert encode(publisher.events[-1])


def test_invalid_params_fail_the_job_without_calling_the_handler(runner, publisher):
    """The schema may have changed between submission and run."""
    runner.execute(command(params={"do": 5}), FIRST)
    assert ("job.failed", "invalid-params") == (publisher.events[-1].fact, publisher.events[-1].job.error.kind)


def test_a_finished_job_is_acknowledged_and_not_run(runner, publisher):
    """A duplicate is not run and publishes nothing."""
    runner.execute(command(), FIRST)
    runner.outcomes.record_confirmed()
    runner.execute(command(), FIRST)
    runner.execute(command(), Delivery(count=1))
    assert ["job.started", "job.succeeded"] == facts(publisher)


def test_the_runner_waits_for_unavailable_claims(runner, publisher, claims):
    """A short outage of Redis has no effect on the job."""
    claims.failing_calls = 3
    runner.execute(command(), FIRST)
    assert ("job.succeeded", False) == (publisher.events[-1].fact, publisher.events[-1].job.unclaimed)


def test_after_the_claim_patience_the_job_runs_unclaimed(runner, publisher, claims):
    """The event has `unclaimed`, and only the delivery number protects the job. An outage of Redis stops no job."""
    runner._patience = 0.0
    claims.failing_calls = 99
    runner.execute(command(), FIRST)
    assert ("job.succeeded", True) == (publisher.events[-1].fact, publisher.events[-1].job.unclaimed)


def test_a_stopping_processor_starts_no_new_job(runner, publisher):
    """A message that is delivered after the interrupt is requeued."""
    runner.interrupt()
    with pytest.raises(Stopping):
        runner.execute(command(), FIRST)
    assert [] == publisher.events


@pytest.mark.parametrize("do", ["return", "raise", "cancel", "later", "interrupt"])
def test_an_outcome_that_was_not_confirmed_is_published_by_the_redelivery(runner, publisher, claims, do):
    """Law 5: the message is requeued. The handler does not run again, and the event and its id stay the same."""
    publish, refused = publisher.publish, []

    def refuse(event):
        refused.append(event)
        raise Stopping

    publisher.publish = refuse
    with pytest.raises(Stopping):
        runner.execute(command(do=do), FIRST)
    publisher.publish = publish
    claims.canceled.add((SUBMITTED.id, 1))
    runner.execute(command(do=do), Delivery(count=1))
    assert refused == publisher.events[1:], "the cancel that came after the end is too late"
    runner.outcomes.record_confirmed()
    runner.execute(command(do=do), Delivery(count=2))
    assert 2 == len(publisher.events)


def test_a_job_is_held_until_its_outcome_is_confirmed(runner, publisher):
    """Its claim is renewed and its heartbeat lists it; its handler is over, so no limit applies."""
    seen = []
    publisher.publish = lambda event: seen.append((runner.running(), runner.held(), runner.running_jobs()))
    runner.execute(command(), FIRST)
    ((running, (held,), (listed,)),) = seen
    assert ((), SUBMITTED.id, SUBMITTED.id) == (running, held.job.id, listed.id)
    assert () == runner.held() == runner.running_jobs()


def test_an_outcome_is_published_while_claims_are_unavailable(runner, publisher, claims):
    """An outage of Redis delays no end."""
    report = publisher.report
    publisher.report = lambda run, **events: (setattr(claims, "failing_calls", 1), report(run, **events))
    runner.execute(command(), FIRST)
    assert "job.succeeded" == publisher.events[-1].fact


def test_the_outcome_of_an_attempt_that_was_superseded_is_not_published(runner, publisher, claims):
    """A later attempt has the job, so its outcome counts. A success is published all the same, and stands."""
    report = publisher.report

    def take_over(run, **events):
        claims.claim(command().job, delivery=9, execution="bbbbbbbb", worker="v")
        report(run, **events)

    publisher.report = take_over
    runner.execute(command(do="raise"), FIRST)
    assert ["job.started"] == facts(publisher)
    runner.execute(command(id="2"), FIRST)
    assert "job.succeeded" == publisher.events[-1].fact


def test_an_unclaimed_attempt_has_a_number_that_no_earlier_one_can_have(runner, publisher, claims):
    """Each earlier delivery may have been an attempt that only its claim knows of; readers never see numbers fall."""
    runner._patience = 0.0
    claims.failing_calls = 99
    runner.execute(command(), Delivery(count=2))
    assert 3 == publisher.events[-1].job.attempt


def test_running_jobs_are_listed_for_the_heartbeat(runner, publisher):
    """A job is listed only while it runs."""
    listed = []
    report = publisher.report
    publisher.report = lambda run, **events: (listed.extend(runner.running_jobs()), report(run, **events))
    runner.execute(command(), FIRST)
    assert [(SUBMITTED.id, "sync", 1)] == [(one.id, one.type, one.attempt) for one in listed]
    assert () == runner.running()


def test_the_queue_wait_is_averaged_for_the_heartbeat(runner, queue_wait):
    """It starts when a job could be started; recent jobs weigh most, and a clock that is ahead counts as no wait."""
    at = now()
    for number, before in enumerate((timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=-60))):
        runner.execute(command(id=f"w{number}", created_at=at - before), FIRST)
    expected = 10 + 0.2 * (20 - 10)
    expected += 0.2 * (0 - expected)
    assert pytest.approx({"default": 60 * expected}, abs=30) == queue_wait.averages()


def test_later_attempts_do_not_count_for_the_queue_wait(runner, queue_wait):
    """They waited for a retry delay or for a redelivery."""
    long_ago = now() - timedelta(hours=1)
    runner.execute(command(delivery=3, attempt=2, created_at=long_ago), Delivery(count=1))
    assert {} == queue_wait.averages()


@pytest.mark.parametrize("x", [1, 2])
def test_an_error_in_a_params_validator_ends_the_attempt(runner, publisher, x):
    """`sys.exit` in it does not end the worker, and the error has its class and traceback."""
    runner.execute(command("tricky", params={"x": x}), FIRST)
    ended = publisher.events[-1]
    assert ("job.failed", "exception") == (ended.fact, ended.job.error.kind)
    assert ended.job.error.exception in ended.job.error.traceback


def test_an_outcome_that_is_too_large_for_a_message_is_replaced(runner, publisher):
    """A small failure is published instead, so that the job does not stay `running`."""
    files = tuple(FileRef(name="\u00e9" * 250, size=1, key=f"jobs/x/{n:04d}") for n in range(300))
    big = command(do="control", files=files, params={"do": "control", "pad": "x" * 60_000})
    runner.execute(big, FIRST)
    ended = publisher.events[-1]
    assert "job.failed" == ended.fact
    assert len(encode(ended)) <= MAX_EVENT
    assert ended == decode_event(encode(ended))


def test_a_canceled_job_is_not_run(runner, publisher, claims):
    """Its end is published with all attempts before its message is acknowledged."""
    claims.canceled.add((SUBMITTED.id, 1))
    runner.execute(command(), FIRST)
    assert ["job.canceled"] == facts(publisher)
    canceled = publisher.events[0].job
    assert ("before-start", 0, ()) == (canceled.canceled_how, canceled.attempt, canceled.attempts)


def test_a_cancel_stops_only_the_run_that_it_names(runner, publisher):
    """A cancel of another run has no effect."""
    stopped = []
    report = publisher.report

    def cancel_during_the_run(run, **events):
        runner.cancel(SUBMITTED.id, 2)
        stopped.append(run.stopped)
        runner.cancel(SUBMITTED.id, 1)
        report(run, **events)

    publisher.report = cancel_during_the_run
    runner.execute(command(), FIRST)
    assert ([None], "job.canceled") == (stopped, publisher.events[-1].fact)
    assert "cooperative" == publisher.events[-1].job.canceled_how


def test_a_program_that_a_handler_leaves_running_is_ended(runner, publisher):
    """The attempt is over when its programs are, whatever thread waits for them."""
    runner.execute(command("leaves"), FIRST)
    LEFT[-1].join(10)
    assert (False, "job.succeeded") == (LEFT.pop().is_alive(), publisher.events[-1].fact)


def test_a_message_with_the_highest_delivery_number_runs(runner, publisher):
    """The number stays, and its events can be read: one above it would be refused."""
    highest = command("sync")
    job = highest.job.model_copy(update={"delivery": MAX_STATED_DELIVERY})
    runner.execute(highest.model_copy(update={"job": job}), Delivery(count=3))
    ended = publisher.events[-1]
    assert ("job.succeeded", MAX_STATED_DELIVERY) == (ended.fact, decode_event(encode(ended)).job.delivery)
