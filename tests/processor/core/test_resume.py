"""What the next attempt of a job begins with: saved state and files, after a retry, an interruption or a crash."""

from dataclasses import replace

import pytest
from odd_handlers import FIRST, Params, command

from milepost import Interrupted, Run, Superseded, job
from milepost.job import definition_of
from milepost_contracts.messages.job_events import decode_event, encode_event
from milepost_contracts.values import MAX_EVENT_STATE, Job
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.resume_keeper import ResumeKeeper
from milepost_processor.core.runner import Delivery
from milepost_processor.ports.claims import ResumePoint

LARGE = "x" * MAX_EVENT_STATE
REDELIVERED = Delivery(count=1)


@pytest.fixture
def keeper(runner, claims):
    return ResumeKeeper(runner.running, claims)


@pytest.fixture
def attempt(runner, publisher):
    """Run a job whose handler is the given function, and return the last event."""

    def run_attempt(work, message=None, delivery=FIRST):
        @job("work", retries=5)
        def handler(params: Params, run: Run):
            return work(run)

        runner._handlers = Handlers({"work": definition_of(handler)})
        runner.execute(message or command("work"), delivery)
        return decode_event(encode_event(publisher.events[-1]))

    return run_attempt


def saving(state, then):
    """Return a handler that saves a state and then raises, or is stopped."""

    def work(run):
        run.save(state)
        if isinstance(then, Exception):
            raise then
        run.stop(then)
        run.checkpoint()

    return work


def crashing(keeper, *states):
    """Return a handler that saves states, each of which is kept, and whose processor dies then."""

    def work(run):
        for state in states:
            run.save(state)
            keeper.keep_all()
        run.save("lost: saved after the last time")
        run.stop(Superseded())
        run.checkpoint()

    return work


def read(run):
    return run.saved_state


@pytest.mark.parametrize("then", [ValueError("no"), Interrupted()], ids=["retried", "interrupted"])
@pytest.mark.parametrize("state", [{"at": 7}, LARGE], ids=["small", "large"])
def test_the_next_attempt_begins_with_the_saved_state(attempt, state, then):
    """The message carries a small state; a large one is a file, so the message stays small."""
    message = attempt(saving(state, then))
    assert (state is LARGE) == (message.job.saved_state_file is not None)
    assert len(encode_event(message)) < MAX_EVENT_STATE
    ended = attempt(read, message)
    assert state == ended.job.result
    assert (None, None) == (ended.job.saved_state, ended.job.saved_state_file)


@pytest.mark.parametrize("state", [{"at": 7}, LARGE], ids=["small", "large"])
def test_a_state_that_is_neither_read_nor_changed_is_passed_on(attempt, state):
    """An attempt may fail before it reads the state."""
    message = attempt(saving(state, ValueError("no")))

    def fail(run):
        raise ValueError

    assert state == attempt(read, attempt(fail, attempt(fail, message))).job.result


@pytest.mark.parametrize("states", [["first", "second"], [LARGE, LARGE + "y"], ["small", LARGE], [LARGE, "small"]])
def test_a_state_survives_a_crash(attempt, keeper, files, states):
    """It was kept with the claim; at most a second of it is lost. Files of states that were replaced are removed."""
    attempt(crashing(keeper, *states))
    assert int(states[-1] != "small" and states[-1] != "second") == len(files.stored)
    ended = attempt(read, delivery=REDELIVERED)
    assert (states[-1], 2) == (ended.job.result, ended.job.attempt)
    assert {} == files.stored


def test_a_crash_of_every_attempt_loses_nothing(attempt, keeper):
    """An attempt that crashes before it has saved anything passes on what it began with."""
    attempt(crashing(keeper, 1))
    attempt(crashing(keeper), delivery=REDELIVERED)
    attempt(crashing(keeper, 3), delivery=Delivery(count=2))
    assert 3 == attempt(read, delivery=Delivery(count=3)).job.result


@pytest.mark.parametrize("state", ["earlier", LARGE], ids=["small", "large"])
def test_without_the_claim_the_message_counts(attempt, keeper, claims, state):
    """Redis has lost everything: the attempt begins with what the last put-back carried."""
    message = attempt(saving(state, ValueError("no")))
    attempt(crashing(keeper, "later", LARGE + "y"), message)
    claims.claims.clear()
    assert state == attempt(read, message, REDELIVERED).job.result


def test_a_missing_file_of_a_kept_state_is_no_failure(attempt, keeper, files):
    """The storage has lost it: the attempt begins with the state in the message."""
    message = attempt(saving("earlier", ValueError("no")))
    attempt(crashing(keeper, LARGE), message)
    files.stored.clear()
    assert "earlier" == attempt(read, message, REDELIVERED).job.result


def test_a_missing_file_of_the_state_in_the_message_fails_the_attempt(attempt, files):
    """Beginning again without being told could repeat what must not be repeated."""
    message = attempt(saving(LARGE, ValueError("no")))
    files.stored.clear()
    failed = attempt(read, message)
    assert ("job.retrying", "FileNotFoundError") == (failed.fact, failed.job.error.exception)


def test_while_the_storage_is_away_the_state_that_was_stored_last_counts(attempt, files, keeper):
    """The job goes on with it; the outage ends no job."""

    def work(run):
        run.save({"stored": 1})
        keeper.keep_all()
        files.away = True
        run.save(LARGE)
        keeper.keep_all()
        raise ValueError

    message = attempt(work)
    assert ("job.retrying", {"stored": 1}) == (message.fact, message.job.saved_state)
    assert {"stored": 1} == attempt(read, message).job.result


def test_a_change_is_kept_once(attempt, keeper, claims):
    """Nothing is written for an execution that has saved nothing since."""
    kept = []
    keep = claims.keep
    claims.keep = lambda job, point: kept.append(point.saved_state) or keep(job, point)

    def work(run):
        for state in (None, None, 1, 1, 2):
            if state is not None:
                run.save(state)
            keeper.keep_all()
        keeper.keep_all()

    attempt(work)
    assert [1, 2] == kept


def test_what_redis_has_lost_is_kept_again(attempt, keeper, claims, monkeypatch):
    """A handler may save rarely, and Redis may lose its latest writes in a failover."""
    points = []

    def lose(job_id):
        claims.claims[job_id] = replace(claims.claims[job_id], resume_point=None)
        keeper.keep_all()
        points.append(claims.claims[job_id].resume_point)

    def work(run):
        run.save(7)
        keeper.keep_all()
        lose(run.job_id)
        monkeypatch.setattr("milepost_processor.core.resume.KEEP_AGAIN", 0)
        lose(run.job_id)

    attempt(work)
    assert [None, ResumePoint(saved_state=7)] == points


def test_nothing_is_kept_of_a_handler_that_saves_nothing(attempt, keeper, claims, monkeypatch):
    """Most jobs cost no call."""
    monkeypatch.setattr("milepost_processor.core.resume.KEEP_AGAIN", 0)
    monkeypatch.setattr(claims, "keep", lambda job, point: pytest.fail("it was kept"))
    assert "job.succeeded" == attempt(lambda run: keeper.keep_all()).fact


def test_what_could_not_be_kept_is_kept_later(attempt, keeper, claims):
    """An outage of Redis stops no handler."""

    def work(run):
        run.save(LARGE)
        claims.failing_calls = 1
        keeper.keep_all()
        keeper.keep_all()
        return claims.claims[run.job_id].resume_point.saved_state_file.size

    assert MAX_EVENT_STATE + 2 == attempt(work).job.result


def writing(names, then, content=b"1"):
    def work(run):
        for name in names:
            with run.create(name) as file:
                file.write(content)
        then(run)

    return work


def fail(run):
    raise ValueError


@pytest.mark.parametrize("crash", [False, True], ids=["retried", "crashed"])
def test_files_of_earlier_attempts_are_kept(attempt, keeper, files, crash):
    """All of them are outputs at the end; one that was written again is there once, with its new content."""

    def die(run):
        keeper.keep_all()
        run.stop(Superseded())
        run.checkpoint()

    names = ["a.csv", "b.csv"]
    if crash:
        attempt(writing(names, die))
        ended = attempt(writing(["b.csv", "c.csv"], lambda run: None, b"22"), delivery=REDELIVERED)
    else:
        message = attempt(writing(names, fail))
        assert names == [file.name for file in message.job.outputs]
        ended = attempt(writing(["b.csv", "c.csv"], lambda run: None, b"22"), message)
    assert [("a.csv", 1), ("b.csv", 2), ("c.csv", 2)] == [(file.name, file.size) for file in ended.job.outputs]


def test_a_state_is_kept_with_the_files_that_it_speaks_of(attempt, keeper, claims):
    """A file that was complete when the state was saved is never missing beside it."""
    kept = []

    def work(run):
        for name in ("a", "b"):
            writing([name], lambda run: None)(run)
            run.save(name)
        keeper.keep_all()
        point = claims.claims[run.job_id].resume_point
        kept.append((point.saved_state, [file.name for file in point.outputs]))

    attempt(work)
    assert [("b", ["a", "b"])] == kept


def write_result(run):
    with run.create("result.png", as_result=True) as file:
        file.write(b"png")


def test_the_result_file_of_an_earlier_attempt_is_the_result(attempt, claims):
    """The state may say that it has been written; one that this attempt writes or returns replaces it."""

    def write_and_fail(run):
        write_result(run)
        raise ValueError

    message = attempt(write_and_fail)
    assert message.job.result_file is not None
    assert message.job.result_file == attempt(lambda run: None, message).job.result_file
    claims.claims.clear()
    returned = attempt(lambda run: 7, message)
    assert ("job.succeeded", 7, None) == (returned.fact, returned.job.result, returned.job.result_file)


def test_a_resume_point_has_only_fields_of_a_job():
    """They are put into the claimed job as they are."""
    assert set() == set(ResumePoint.model_fields) - set(Job.model_fields)
