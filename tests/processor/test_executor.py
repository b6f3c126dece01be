"""Claim → started → handler → outcome confirmed → ack: the order that laws 5 and 6 rest on."""

import types
from datetime import timedelta

import pytest
from pydantic import BaseModel, field_validator
from samples import SUBMITTED, TRACE

from milepost import (
    Canceled,
    InputError,
    Interrupted,
    Reject,
    RetryLater,
    Run,
    Superseded,
    TimedOut,
    definitions_in,
    job,
)
from milepost_contracts.document import expired
from milepost_contracts.envelope import encode, now
from milepost_contracts.events import JobSubmitted, decode_event
from milepost_contracts.values import MAX_EVENT, MAX_RESULT, Attempt, FileRef
from milepost_processor.errors import DeliveredTooOften, Stopping
from milepost_processor.executor import Delivery, Executor
from milepost_processor.registry import Registry

FIRST = Delivery(count=0)


class Params(BaseModel):
    do: str = "return"


class Answer(BaseModel):
    n: int


class UnspeakableError(Exception):
    """Its message can't be had."""

    def __str__(self):
        raise RuntimeError


class Tricky(BaseModel):
    x: int = 0

    @field_validator("x")
    @classmethod
    def _raise(cls, value):
        raise KeyError(value)


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def behave(params, run):  # noqa: PLR0912 - one for each thing a handler can do
    run.progress(1, 2, "half")
    run.emit({"n": 1})
    match params.do:
        case "return":
            return Answer(n=42)
        case "raise":
            raise ValueError("broken \ud800")
        case "input":
            raise InputError("no such thing")
        case "exit":
            raise SystemExit(3)
        case "keyboard":
            raise KeyboardInterrupt
        case "cancel":
            run.stop(Canceled())
            run.checkpoint()
        case "interrupt":
            run.stop(Interrupted())
            run.checkpoint()
        case "later":
            run.save({"at": 7})
            raise RetryLater(after=timedelta(minutes=5), reason="not yet")
        case "reject":
            raise Reject("never")
        case "timeout":
            run.stop(TimedOut())
            run.checkpoint()
        case "superseded":
            run.stop(Superseded())
            run.checkpoint()
        case "wrong":
            return {"n": "not a number"}
        case "number":
            run.progress("abc")
        case "control":
            raise ValueError("\x01" * 20_000)
        case "no-text":
            raise UnspeakableError
        case "deep":
            return nested(150)
        case "surrogate":
            run.progress(1, 1, "\ud800")
            return Answer(n=1)
    return None


@job("sync")
def sync_handler(params: Params, run: Run) -> Answer:
    return behave(params, run)


@job("retried", retries=2, backoff=timedelta(seconds=10))
def retried_handler(params: Params, run: Run) -> Answer:
    return behave(params, run)


@job("async")
async def async_handler(params: Params, run: Run) -> Answer:
    return behave(params, run)


@job("text")
def text_handler(params: Params, run: Run) -> str:
    return "x" * MAX_RESULT


@job("odd")
def odd_handler(params: Params, run: Run):
    return object()


@job("tricky")
def tricky_handler(params: Tricky, run: Run) -> None:
    pass


MODULE = types.ModuleType("handlers")
MODULE.__dict__.update(
    r=retried_handler, a=sync_handler, b=async_handler, c=text_handler, d=odd_handler, e=tricky_handler
)
REGISTRY = Registry({definition.type: definition for definition in definitions_in(MODULE)})


@pytest.fixture
def executor(gate, outbox, files, run_async, monkeypatch):
    monkeypatch.setattr("milepost_processor.executor.GATE_BACK_OFF", (0.0, 0.0))
    return Executor(
        REGISTRY,
        gate=gate,
        outbox=outbox,
        files=files,
        run_async=run_async,
        instance="here",
        gate_patience=timedelta(seconds=5),
        delivery_limit=3,
    )


def command(type="sync", **changes):
    told = {"type": type, "params": {"do": changes.pop("do", "return")}, "created_at": now()}
    return JobSubmitted(job=SUBMITTED.model_copy(update=told | changes), traceparent=TRACE)


def facts(outbox):
    return [event.fact for event in outbox.events]


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


@pytest.mark.parametrize("type", ["text", "odd"])
def test_a_result_that_can_not_travel_fails_the_job_with_words(executor, outbox, type):
    """Too large, or no JSON."""
    executor.execute(command(type), FIRST)
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
    outbox.follow = lambda run, progressed: (seen.extend(executor.running_jobs()), follow(run, progressed))
    executor.execute(command(), FIRST)
    assert [(SUBMITTED.id, "sync", 1)] == [(one.id, one.type, one.attempt) for one in seen]
    assert () == executor.running()


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
    outbox.follow = lambda run, progressed: (runs.append(run), follow(run, progressed))
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


def test_a_canceled_job_is_not_run(executor, outbox, gate):
    """Its message is gone once it is acknowledged, so its end is told first; of attempts that were lost, too."""
    gate.canceled.add((SUBMITTED.id, 1))
    executor.execute(command(), FIRST)
    assert ["job.canceled"] == facts(outbox)
    canceled = outbox.events[0].job
    assert ("before-start", 0, ()) == (canceled.canceled_how, canceled.attempt, canceled.attempts)


def test_progress_that_is_still_on_its_way_does_not_undo_a_retry(executor, outbox):
    """The courier may build an event after the outcome was built, and before it is published."""
    late = []
    follow = outbox.follow
    outbox.follow = lambda run, progressed: (late.append(progressed), follow(run, progressed))
    for do in ("raise", "later", "interrupt"):
        executor.execute(command("retried", id=do, do=do), FIRST)
        assert late[-1]().sequence < outbox.events[-1].sequence


def test_a_cancel_reaches_the_run_of_the_job_that_it_names(executor, outbox):
    """And no other run of it."""
    stopped = []
    follow = outbox.follow

    def canceled_meanwhile(run, progressed):
        executor.cancel(SUBMITTED.id, 2)
        stopped.append(run.stopped)
        executor.cancel(SUBMITTED.id, 1)
        follow(run, progressed)

    outbox.follow = canceled_meanwhile
    executor.execute(command(), FIRST)
    assert ([None], "job.canceled") == (stopped, outbox.events[-1].fact)
    assert "cooperative" == outbox.events[-1].job.canceled_how


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
