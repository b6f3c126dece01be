"""An attempt ends when its code has ended, not when it was asked to (law 12)."""

import asyncio
import contextvars
import threading
import time
from datetime import timedelta

import pytest
from dramatiq.threading import raise_thread_exception
from fake_files import FakeFiles
from pydantic import BaseModel, field_serializer, field_validator
from samples import SUBMITTED
from waiting import wait_until

from milepost import Canceled, Run, TimedOut, job
from milepost.errors import Forced
from milepost.job import definition_of
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_contracts.values import Attempt
from milepost_processor.adapters.async_loop import HandlerLoop
from milepost_processor.core.async_call import AsyncCall
from milepost_processor.core.execution import Execution
from milepost_processor.core.outcome import outcome_of


def raise_in(thread):
    raise_thread_exception(thread, Forced)


def execution():
    claimed = {"params": {}, "delivery": 1, "execution": "aaaaaaaa"}
    claimed["attempts"] = (Attempt(number=1, started_at=SUBMITTED.created_at),)
    claimed = SUBMITTED.model_copy(update=claimed)
    return Execution(claimed, JobSubmitted(job=SUBMITTED), Run(job_id="1"), FakeFiles().outputs(claimed))


class Running:
    """One attempt on a thread of its own."""

    def __init__(self, handler, run_async):
        self.execution = execution()
        self.outcome = None
        definition = definition_of(job("x")(handler))

        def execute():
            self.outcome = outcome_of(self.execution, definition, run_async)

        self.thread = threading.Thread(target=execute, daemon=True)
        self.thread.start()

    def force(self, reason):
        """Stop and force it as the watchdog does."""
        self.execution.stop(reason)
        wait_until(lambda: self.execution.force(raise_in), within=5, what="a handler runs")

    def end(self):
        self.thread.join(5)
        assert not self.thread.is_alive()
        return self.outcome


@pytest.fixture
def begin():
    """Begin an attempt."""
    loop = HandlerLoop()
    loop.start()
    yield lambda handler: Running(handler, loop.run)
    loop._loop.call_soon_threadsafe(loop._loop.stop)
    loop._thread.join(5)
    loop._loop.close()


class Nothing(BaseModel):
    """No params."""


def test_an_async_handler_that_cleans_up_has_ended_when_it_is_done(begin):
    """Until then its thread is busy: no other job on its slot, and no second attempt."""
    working, cleaning, done = threading.Event(), threading.Event(), threading.Event()

    async def handler(params: Nothing, run: Run) -> None:
        try:
            working.set()
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await asyncio.to_thread(done.wait, 5)

    attempt = begin(handler)
    assert working.wait(5)
    attempt.force(Canceled())
    assert cleaning.wait(5)
    assert (True, None) == (attempt.thread.is_alive(), attempt.outcome)
    done.set()
    ended = attempt.end()
    assert ("job.canceled", "forced") == (ended.fact, ended.job.canceled_how)


@pytest.mark.parametrize(
    "start", [asyncio.to_thread, lambda *call: asyncio.get_running_loop().run_in_executor(None, *call)]
)
def test_an_attempt_lasts_as_long_as_the_threads_that_its_async_handler_started(begin, start):
    """A cancel ends the wait for a thread, and not the thread: its work would go on beside the next attempt."""
    working, done = threading.Event(), threading.Event()

    def work():
        working.set()
        return done.wait(5)

    async def handler(params: Nothing, run: Run) -> None:
        await start(work)

    attempt = begin(handler)
    assert working.wait(5)
    attempt.force(Canceled())
    attempt.force(Canceled())
    attempt.thread.join(0.05)
    assert (True, None) == (attempt.thread.is_alive(), attempt.outcome)
    done.set()
    assert "job.canceled" == attempt.end().fact


def test_an_async_handler_that_catches_its_cancel_can_be_canceled_again(begin):
    """It has not ended before."""
    caught = threading.Semaphore(0)

    async def handler(params: Nothing, run: Run) -> None:
        for _ in range(3):
            try:
                caught.release()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
        caught.release()
        await asyncio.sleep(60)

    attempt = begin(handler)
    for _ in range(3):
        assert caught.acquire(timeout=5)
        attempt.force(Canceled())
        assert attempt.outcome is None
    assert caught.acquire(timeout=5)
    attempt.force(Canceled())
    assert "job.canceled" == attempt.end().fact


def test_what_an_async_handler_returns_in_spite_of_its_cancel_is_its_result(begin):
    """The cancel came too late."""
    working = threading.Event()

    async def handler(params: Nothing, run: Run) -> str:
        try:
            working.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done all the same"

    attempt = begin(handler)
    assert working.wait(5)
    attempt.force(Canceled())
    assert "done all the same" == attempt.end().job.result


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_async_handler_that_ends_the_process_fails_alone(begin, error):
    """The event loop goes on; the error has the class that was raised."""

    async def handler(params: Nothing, run: Run) -> None:
        raise error

    async def other(params: Nothing, run: Run) -> int:
        await asyncio.sleep(0)
        return 1

    assert type(error).__name__ == begin(handler).end().job.error.exception
    assert 1 == begin(other).end().job.result


def test_a_call_that_is_canceled_before_it_begins_stops_at_its_first_await(run_async):
    """The loop may be busy with another handler."""
    begun = []

    async def handler():
        begun.append(1)
        await asyncio.sleep(60)

    call = AsyncCall(handler())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        call.result(run_async)
    assert [1] == begun


def sleep():
    """Wait for `Forced`, which is raised between two instructions."""
    for _ in range(1_000):
        time.sleep(0.005)


class SlowParams(BaseModel):
    n: int = 1

    @field_validator("n", mode="before")
    @classmethod
    def _wait(cls, n):
        sleep()
        return n

    model_config = {"validate_default": True}


class SlowResult(BaseModel):
    n: int = 1

    @field_serializer("n")
    def _wait(self, n):
        sleep()
        return n


class SlowError(Exception):
    def __str__(self):
        sleep()
        return "at last"


def in_the_handler(params: Nothing, run: Run) -> None:
    sleep()


def in_a_validator(params: SlowParams, run: Run) -> None: ...


def in_a_serializer(params: Nothing, run: Run) -> SlowResult:
    return SlowResult()


def in_the_text_of_an_error(params: Nothing, run: Run) -> None:
    raise SlowError


@pytest.mark.parametrize("handler", [in_the_handler, in_a_validator, in_a_serializer, in_the_text_of_an_error])
@pytest.mark.parametrize("reason, fact, kind", [(TimedOut, "job.failed", "timeout"), (Canceled, "job.canceled", None)])
def test_all_code_of_the_author_can_be_forced_to_stop(begin, handler, reason, fact, kind):
    """Validators, serializers and texts of errors have the limits of the handler."""
    attempt = begin(handler)
    attempt.force(reason())
    ended = attempt.end()
    assert (fact, kind) == (ended.fact, ended.job.error and ended.job.error.kind)


def test_an_exception_is_never_raised_after_the_guarded_call():
    """It would hit our own code, or the next job of the thread."""
    over = threading.Event()
    executions = [execution() for _ in range(100)]

    def force_all():
        while not over.is_set():
            for one in executions:
                one.force(raise_in)

    forcing = threading.Thread(target=force_all)
    forcing.start()
    ended = []
    for one in executions:
        try:
            ended.append(one.guard(lambda: [None] * 100))
        except Forced:
            ended.append(None)
        assert one._thread is None
    over.set()
    forcing.join()
    assert len(executions) == len(ended)


def test_context_variables_do_not_reach_the_next_job_of_the_thread():
    """A handler binds the user to its log lines; those of the next job belong to someone else."""
    user = contextvars.ContextVar("user", default=None)
    execution().guard(lambda: user.set("alice"))
    assert user.get() is None


def test_force_says_whether_a_handler_runs():
    """A result that is being published is no handler."""
    one = execution()
    one.stop(Canceled())
    assert one.ignores_stop(timedelta(0))
    assert (False, False) == (one.force(lambda _: None), one.forced)
    assert one.guard(lambda: one.force(lambda _: None))
    assert not one.ignores_stop(timedelta(0)), "it has just been forced"
