"""The kit for tests of handlers."""

from datetime import timedelta

import pytest
from pydantic import BaseModel

from milepost import RetryLater, Run, job
from milepost.errors import InvalidDefinition, InvalidResult
from milepost.testing import MemoryFile, run_handler, run_job


class Steps(BaseModel):
    steps: int = 5


@job("walk", retries=2, backoff=timedelta(seconds=10))
def walk(params: Steps, run: Run) -> int:
    """Walk step by step, and go on where it was."""
    for step in range((run.saved_state or 0) + 1, params.steps + 1):
        run.save(step)
        run.emit(step)
        run.progress(step, params.steps)
    return params.steps


def test_an_interrupted_job_goes_on_with_what_it_saved():
    """Each step is walked once; the attempts are told."""
    outcome = run_job(walk, {}, interrupt_at=2)
    assert ("succeeded", 5, ["interrupted", "succeeded"]) == (outcome.status, outcome.result, outcome.attempts)
    # The report at which it was to stop went through; the next call found out, when the step had been saved.
    assert [1, 2, 4, 5] == [one.done for one in outcome.progress]


def test_each_attempt_can_be_interrupted():
    """What processors do that are restarted again and again."""
    outcome = run_job(walk, {"steps": 9}, interrupt_at=[1, 2, 1])
    assert ["interrupted"] * 3 + ["succeeded"] == outcome.attempts
    assert [] == outcome.pauses


def test_a_job_is_canceled_at_a_step_of_all():
    """Whatever attempt that is in."""
    outcome = run_job(walk, {"steps": 9}, interrupt_at=2, cancel_at=4)
    assert ("canceled", ["interrupted", "canceled"], None) == (outcome.status, outcome.attempts, outcome.result)
    assert 4 == len(outcome.progress)


@job("flaky", retries=2, backoff=timedelta(seconds=10))
def flaky(params: Steps, run: Run) -> str:
    """Fail in the first attempts."""
    run.progress(run.attempt)
    if run.attempt <= params.steps:
        raise OSError("the network is away")
    return f"attempt {run.attempt}"


def test_a_failed_attempt_is_followed_by_another_one():
    """Without waiting; about how long it would have been is told."""
    outcome = run_job(flaky, {"steps": 2})
    assert ("succeeded", "attempt 3") == (outcome.status, outcome.result)
    assert ["OSError: the network is away"] * 2 + ["succeeded"] == outcome.attempts
    assert [timedelta(seconds=10), timedelta(seconds=20)] == outcome.pauses
    assert [1, 2, 3] == [one.done for one in outcome.progress]


def test_retries_come_to_an_end():
    """The last failure is the job's."""
    outcome = run_job(flaky, {"steps": 9})
    assert ("failed", "exception", "OSError", 3) == (
        outcome.status,
        outcome.error.kind,
        outcome.error.exception,
        len(outcome.attempts),
    )


@job("polite")
def polite(params: Steps, run: Run) -> int:
    """Ask to be called again, so many times."""
    asked = run.saved_state or 0
    if asked < params.steps:
        run.save(asked + 1)
        raise RetryLater(after=timedelta(minutes=1))
    return asked


def test_a_handler_that_asks_to_be_called_again_is():
    """That uses up no retry; one that always asks is a mistake."""
    outcome = run_job(polite, {"steps": 3})
    assert ("succeeded", 3, [timedelta(minutes=1)] * 3) == (outcome.status, outcome.result, outcome.pauses)
    with pytest.raises(AssertionError, match="asks to be called again"):
        run_job(polite, {"steps": 10**9})


@job("typed")
def typed(params: Steps, run: Run) -> int:
    """Return what it should not."""
    return "five"


def test_one_attempt_raises_what_the_handler_raises():
    """And what is returned must be what is promised."""
    with pytest.raises(OSError, match="away"):
        run_handler(flaky, {"steps": 1})
    assert "attempt 2" == run_handler(flaky, {"steps": 1}, attempt=2).result
    with pytest.raises(InvalidResult, match="something else than it says"):
        run_handler(typed, {})


def test_files_come_along_in_each_attempt():
    """From their beginnings."""

    @job("files", retries=1)
    def read(params: Steps, run: Run) -> str:
        with run.files[0].open() as file:
            text = file.read().decode()
        if run.attempt == 1:
            raise OSError(text)
        return text

    assert "all" == run_job(read, {}, files=[MemoryFile("a.txt", b"all")]).result


def test_what_is_no_handler_is_told():
    """Somebody forgot the decorator."""
    with pytest.raises(InvalidDefinition, match="no @job"):
        run_job(print, {})


def test_the_fixture_runs_a_job(milepost_run):
    """`milepost_run`, from the plugin that comes with the package."""
    assert "succeeded" == milepost_run(walk, {"steps": 1}).status


@job("late", retries=2)
def late(params: Steps, run: Run) -> None:
    """Fail after a report, whatever was asked."""
    try:
        run.progress(1)
        run.progress(2)
    finally:
        raise OSError("too late")


def test_a_job_that_was_canceled_while_an_attempt_failed_is_not_tried_again():
    """The cancel comes before the next attempt."""
    outcome = run_job(late, {}, cancel_at=1)
    assert ("canceled", ["OSError: too late"]) == (outcome.status, outcome.attempts)
    assert ("canceled", []) == ((never := run_job(late, {}, cancel_at=0)).status, never.attempts)


@job("asynchronous")
async def asynchronous(params: Steps, run: Run) -> int:
    """Return the steps."""
    return params.steps


async def test_an_asynchronous_handler_runs_in_an_asynchronous_test():
    """Where a loop runs already."""
    assert 5 == run_job(asynchronous, {}).result


def test_a_place_to_stop_that_is_never_reached_is_told():
    """Such a test would test nothing."""
    for where in ({"interrupt_at": 99}, {"cancel_at": 99}, {"interrupt_at": [2, 99]}):
        with pytest.raises(ValueError, match="was never reached"):
            run_job(walk, {}, **where)
