"""Claim → started → handler → outcome confirmed → ack: the order that laws 5 and 6 rest on."""

from datetime import timedelta

import pytest
from odd_handlers import FIRST, command, facts
from samples import SUBMITTED, TRACE

from milepost_contracts.envelope import encode, now
from milepost_contracts.events import decode_event
from milepost_contracts.values import MAX_EVENT, FileRef
from milepost_processor.errors import Stopping
from milepost_processor.executor import Delivery


@pytest.mark.parametrize("type", ["sync", "async"])
def test_a_job_is_claimed_started_run_and_its_outcome_confirmed(executor, outbox, gate, type):
    """Sync and async handlers alike; when `execute` returns, the message may be acknowledged."""
    executor.execute(command(type), FIRST)
    started, ended = outbox.events
    assert ["job.started", "job.succeeded"] == facts(outbox)
    assert (1, "here", {"n": 42}) == (ended.job.attempt, ended.job.worker, ended.job.result)
    assert (1, 2, "half") == (ended.job.progress.done, ended.job.progress.total, ended.job.progress.message)
    assert (1, ({"n": 1},)) == (ended.job.items.count, ended.job.items.last)
    assert started.sequence < ended.sequence
    assert TRACE == started.traceparent == ended.traceparent
    assert gate.claims[SUBMITTED.id].ended, "the claim is marked as ended"
    assert [] == outbox.followed


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
        ("sync", "no-text", "job.failed", "unreportable"),
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
def test_whatever_a_handler_does_the_job_ends_with_a_reason(executor, outbox, type, do, fact, kind):
    """And the worker lives on: SystemExit too is only an outcome."""
    executor.execute(command(type, do=do), FIRST)
    ended = outbox.events[-1]
    assert (fact, kind) == (ended.fact, ended.job.error and ended.job.error.kind)
    assert ended == decode_event(encode(ended)), "it can travel"


def test_an_exception_is_told_with_class_and_traceback(executor, outbox):
    """Whoever wrote the handler finds the line."""
    executor.execute(command(do="raise"), FIRST)
    error = outbox.events[-1].job.error
    assert "ValueError" == error.exception
    assert error.message.startswith("broken")
    assert "in behave" in error.traceback


def test_a_result_that_has_no_json_fails_the_job_with_words(executor, outbox):
    """Whoever asks could make nothing of it."""
    executor.execute(command("odd"), FIRST)
    assert "invalid-result" == outbox.events[-1].job.error.kind


def test_a_message_that_is_no_text_does_not_stop_the_job(executor, outbox):
    """Half a surrogate pair in a progress message is replaced, not fatal."""
    executor.execute(command(do="surrogate"), FIRST)
    assert "job.succeeded" == outbox.events[-1].fact
    assert encode(outbox.events[-1])


def test_params_that_do_not_fit_fail_the_job_without_calling_the_handler(executor, outbox):
    """A schema that changed between submission and run."""
    executor.execute(command(params={"do": 5}), FIRST)
    assert ("job.failed", "invalid-params") == (outbox.events[-1].fact, outbox.events[-1].job.error.kind)


def test_a_finished_job_is_acknowledged_and_not_run(executor, outbox):
    """A duplicate says nothing and does nothing."""
    executor.execute(command(), FIRST)
    executor.execute(command(), FIRST)
    executor.execute(command(), Delivery(count=1))
    assert ["job.started", "job.succeeded"] == facts(outbox)


def test_a_gate_that_is_away_is_waited_for(executor, outbox, gate):
    """A short absence of Redis shows nowhere."""
    gate.away_for = 3
    executor.execute(command(), FIRST)
    assert ("job.succeeded", False) == (outbox.events[-1].fact, outbox.events[-1].job.ungated)


def test_when_patience_ends_the_job_runs_ungated_and_says_so(executor, outbox, gate):
    """The fence alone must do then; Redis can't stop jobs from running."""
    executor._patience = 0.0
    gate.away_for = 99
    executor.execute(command(), FIRST)
    assert ("job.succeeded", True) == (outbox.events[-1].fact, outbox.events[-1].job.ungated)


def test_a_process_that_stops_begins_nothing_new(executor, outbox):
    """What is delivered after the interrupt goes straight back."""
    executor.interrupt()
    with pytest.raises(Stopping):
        executor.execute(command(), FIRST)
    assert [] == outbox.events


def test_an_outcome_that_is_not_durable_is_not_acknowledged(executor, outbox, gate):
    """Law 5: if the confirm can't be had, the message goes back and the claim stays open."""

    def refuse(event):
        raise Stopping

    outbox.deliver = refuse
    with pytest.raises(Stopping):
        executor.execute(command(), FIRST)
    assert not gate.claims[SUBMITTED.id].ended


def test_what_runs_is_listed_for_the_beat(executor, outbox):
    """While it runs, and no longer."""
    seen = []
    follow = outbox.follow
    outbox.follow = lambda run, **events: (seen.extend(executor.running_jobs()), follow(run, **events))
    executor.execute(command(), FIRST)
    assert [(SUBMITTED.id, "sync", 1)] == [(one.id, one.type, one.attempt) for one in seen]
    assert () == executor.running()


def test_how_long_jobs_wait_is_told_in_the_beat(executor, waits):
    """From when they could be started; the latest count most, and a clock that is ahead counts as no wait."""
    at = now()
    for number, before in enumerate((timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=-60))):
        executor.execute(command(id=f"w{number}", created_at=at - before), FIRST)
    expected = 10 + 0.2 * (20 - 10)
    expected += 0.2 * (0 - expected)
    assert pytest.approx({"default": 60 * expected}, abs=30) == waits.lately()


def test_an_attempt_that_follows_on_another_says_nothing_of_the_queue(executor, waits):
    """It waited for its time, or for somebody to take over."""
    long_ago = now() - timedelta(hours=1)
    executor.execute(command(turn=3, attempt=2, created_at=long_ago), Delivery(count=1))
    assert {} == waits.lately()


def test_params_whose_validator_breaks_end_the_job(executor, outbox):
    """A mistake in a validator is an outcome, and does not send the job around for ever."""
    executor.execute(command("tricky", params={"x": 1}), FIRST)
    assert ("job.failed", "unreportable") == (outbox.events[-1].fact, outbox.events[-1].job.error.kind)


def test_an_outcome_that_no_reader_would_understand_is_replaced(executor, outbox):
    """Too large for a message: told small rather than parked, for a parked outcome leaves the job running for ever."""
    files = tuple(FileRef(name="\u00e9" * 250, size=1, key=f"jobs/x/{n:04d}") for n in range(300))
    big = command(do="control", files=files, params={"do": "control", "pad": "x" * 60_000})
    executor.execute(big, FIRST)
    ended = outbox.events[-1]
    assert "job.failed" == ended.fact
    assert len(encode(ended)) <= MAX_EVENT
    assert ended == decode_event(encode(ended))


def test_a_canceled_job_is_not_run(executor, outbox, gate):
    """Its message is gone once it is acknowledged, so its end is told first; of attempts that were lost, too."""
    gate.canceled.add((SUBMITTED.id, 1))
    executor.execute(command(), FIRST)
    assert ["job.canceled"] == facts(outbox)
    canceled = outbox.events[0].job
    assert ("before-start", 0, ()) == (canceled.canceled_how, canceled.attempt, canceled.attempts)


def test_a_cancel_reaches_the_run_of_the_job_that_it_names(executor, outbox):
    """And no other run of it."""
    stopped = []
    follow = outbox.follow

    def canceled_meanwhile(run, **events):
        executor.cancel(SUBMITTED.id, 2)
        stopped.append(run.stopped)
        executor.cancel(SUBMITTED.id, 1)
        follow(run, **events)

    outbox.follow = canceled_meanwhile
    executor.execute(command(), FIRST)
    assert ([None], "job.canceled") == (stopped, outbox.events[-1].fact)
    assert "cooperative" == outbox.events[-1].job.canceled_how
