"""`milepost.testing`, for tests of handlers."""

import asyncio
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
    """Walk step by step; resume after the saved step."""
    for step in range((run.saved_state or 0) + 1, params.steps + 1):
        run.save(step)
        run.emit(step)
        run.progress(step, params.steps)
    return params.steps


def test_an_interrupted_job_resumes_from_its_saved_state():
    """Each step is walked once; the outcome lists the attempts."""
    outcome = run_job(walk, {}, interrupt_at=2)
    assert ("succeeded", 5, ["interrupted", "succeeded"]) == (outcome.status, outcome.result, outcome.attempts)
    # The stop is raised by the call after report 2, when step 3 has been saved.
    assert [1, 2, 4, 5] == [one.done for one in outcome.progress]


def test_every_attempt_has_a_number_of_its_own():
    """An interrupted one too, as on a processor: readers never see the number go back."""

    @job("numbered", retries=1)
    def numbered(params: Steps, run: Run) -> list[int]:
        numbers = [*(run.saved_state or []), run.attempt]
        run.save(numbers)
        run.progress(1)
        run.checkpoint()
        if len(numbers) == 2:
            raise ValueError
        return numbers

    assert [1, 2, 3] == run_job(numbered, {}, interrupt_at=1).result


def test_each_attempt_can_be_interrupted():
    """This simulates a processor that is restarted several times."""
    outcome = run_job(walk, {"steps": 9}, interrupt_at=[1, 2, 1])
    assert ["interrupted"] * 3 + ["succeeded"] == outcome.attempts
    assert [] == outcome.pauses


def test_cancel_at_counts_the_reports_of_all_attempts():
    """The cancel may fall into any attempt."""
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


def test_a_failed_attempt_is_retried():
    """The retry does not wait; the outcome has the approximate delays."""
    outcome = run_job(flaky, {"steps": 2})
    assert ("succeeded", "attempt 3") == (outcome.status, outcome.result)
    assert ["OSError: the network is away"] * 2 + ["succeeded"] == outcome.attempts
    assert [timedelta(seconds=10), timedelta(seconds=20)] == outcome.pauses
    assert [1, 2, 3] == [one.done for one in outcome.progress]


def test_a_job_fails_when_no_retries_are_left():
    """The last failure is the job's error."""
    outcome = run_job(flaky, {"steps": 9})
    assert ("failed", "exception", "OSError", 3) == (
        outcome.status,
        outcome.error.kind,
        outcome.error.exception,
        len(outcome.attempts),
    )


@job("deferred")
def deferred(params: Steps, run: Run) -> int:
    """Raise `RetryLater` as many times as `steps` says."""
    raised = run.saved_state or 0
    if raised < params.steps:
        run.save(raised + 1)
        raise RetryLater(after=timedelta(minutes=1))
    return raised


def test_retry_later_runs_the_handler_again():
    """It does not use up a retry; a handler that always raises it is an error."""
    outcome = run_job(deferred, {"steps": 3})
    assert ("succeeded", 3, [timedelta(minutes=1)] * 3) == (outcome.status, outcome.result, outcome.pauses)
    with pytest.raises(AssertionError, match="has not ended"):
        run_job(deferred, {"steps": 10**9})


@job("typed")
def typed(params: Steps, run: Run) -> int:
    """Return a value that does not match the annotation."""
    return "five"


def test_run_handler_raises_what_the_handler_raises():
    """The returned value must match the return annotation."""
    with pytest.raises(OSError, match="away"):
        run_handler(flaky, {"steps": 1})
    assert "attempt 2" == run_handler(flaky, {"steps": 1}, attempt=2).result
    with pytest.raises(InvalidResult, match="does not match the return annotation"):
        run_handler(typed, {})


def test_each_attempt_reads_the_files_from_their_beginning():
    """A retry gets the same content."""

    @job("files", retries=1)
    def read(params: Steps, run: Run) -> str:
        with run.files[0].open() as file:
            text = file.read().decode()
        if run.attempt == 1:
            raise OSError(text)
        return text

    assert "all" == run_job(read, {}, files=[MemoryFile("a.txt", b"all")]).result


def test_a_function_without_the_decorator_is_refused():
    """The error says that `@job` is missing."""
    with pytest.raises(InvalidDefinition, match="no @job"):
        run_job(print, {})


def test_the_milepost_run_fixture_runs_a_job(milepost_run):
    """It comes from the pytest plugin of the package."""
    assert "succeeded" == milepost_run(walk, {"steps": 1}).status


@job("late", retries=2)
def late(params: Steps, run: Run) -> None:
    """Raise an error after a report, even after a stop."""
    try:
        run.progress(1)
        run.progress(2)
    finally:
        raise OSError("too late")


def test_a_job_that_is_canceled_during_a_failing_attempt_is_not_retried():
    """The cancel takes precedence over the retry. A job that is canceled before its start has no attempt."""
    outcome = run_job(late, {}, cancel_at=1)
    assert ("canceled", ["OSError: too late"]) == (outcome.status, outcome.attempts)
    assert ("canceled", []) == ((before_start := run_job(late, {}, cancel_at=0)).status, before_start.attempts)


@job("asynchronous")
async def asynchronous(params: Steps, run: Run) -> int:
    """Return the steps."""
    return params.steps


async def test_an_asynchronous_handler_runs_in_an_asynchronous_test():
    """An event loop is running already."""
    assert 5 == run_job(asynchronous, {}).result


def test_a_stop_that_is_never_reached_is_an_error():
    """Such a test would test nothing."""
    for where in ({"interrupt_at": 99}, {"cancel_at": 99}, {"interrupt_at": [2, 99]}):
        with pytest.raises(ValueError, match="was never reached"):
            run_job(walk, {}, **where)


@job("writes", retries=1)
def write_parts(params: Steps, run: Run) -> None:
    """Write a file for each step, once; the last one is written by every attempt."""
    for step in range(run.saved_state or 0, params.steps):
        with run.create(f"{step}.txt") as file:
            file.write(b"part")
        run.save(step + 1)
        run.progress(step)
    with run.create("last.txt") as file:
        file.write(b"%d" % run.attempt)
    if run.attempt == 2:
        raise OSError("once")


def test_the_files_of_earlier_attempts_are_kept():
    """Those that a later attempt writes again are replaced."""
    outcome = run_job(write_parts, {"steps": 3}, interrupt_at=1)
    assert ["interrupted", "OSError: once", "succeeded"] == outcome.attempts
    assert {"0.txt": b"part", "1.txt": b"part", "2.txt": b"part", "last.txt": b"3"} == outcome.outputs


def test_a_state_may_be_larger_than_an_event():
    """The processor stores it as a file."""

    @job("grows")
    def grow(params: Steps, run: Run) -> int:
        done = run.saved_state or {}
        for step in range(len(done), 5_000):
            done[str(step)] = step
            if step % 1_000 == 0:
                run.save(done)
                run.progress(step)
        return len(done)

    assert 5_000 == run_job(grow, {}, interrupt_at=2).result


@pytest.mark.parametrize("error", [KeyboardInterrupt(), pytest.skip.Exception("no network"), pytest.fail.Exception()])
def test_what_is_meant_for_the_test_reaches_it(error):
    """Ctrl-C, `pytest.skip` and `pytest.fail` in a handler do not end as a failed job."""

    @job("meant-for-the-test")
    def handler(params: Steps, run: Run) -> None:
        raise error

    with pytest.raises(type(error)):
        run_job(handler, {})


@job("together")
async def together(params: Steps, run: Run) -> str:
    """Report from several tasks."""

    async def walk_along():
        for step in range(params.steps):
            await asyncio.sleep(0)
            run.progress(step)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(walk_along())
    return "done"


def test_the_tasks_of_a_task_group_can_be_canceled_and_interrupted():
    """The stop comes out in an exception group."""
    assert "canceled" == run_job(together, {}, cancel_at=4).status
    outcome = run_job(together, {}, interrupt_at=4)
    assert ("succeeded", ["interrupted", "succeeded"]) == (outcome.status, outcome.attempts)
