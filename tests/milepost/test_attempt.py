"""How an attempt ends, whatever its author's code raises, and wherever."""

import asyncio
import concurrent.futures
import sys
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, field_serializer, field_validator, model_validator

from milepost import Canceled, InputError, Interrupted, Reject, RetryLater, Run, Superseded, TimedOut, job
from milepost.attempt import Deferred, Failed, Stopped, Succeeded, attempt, ending_of
from milepost.errors import Forced
from milepost.job import definition_of
from milepost.testing import MemoryOutputs
from milepost.testing.attempts import wait_for


class Nothing(BaseModel):
    """No params."""


@job("one")
def one(params: Nothing, run: Run) -> None: ...


@pytest.fixture
def run():
    return Run(job_id="1", outputs=MemoryOutputs())


def end(handler, run, params=None):
    return attempt(definition_of(job("x")(handler)), params or {}, run, wait_for)


def raised(error, run):
    return ending_of(error, definition_of(one), run)


def deep(*errors):
    """Return the errors in a group, the last of them three levels deeper."""
    group = errors[-1]
    for _ in range(3):
        group = BaseExceptionGroup("inner", [ValueError("beside it"), group])
    return BaseExceptionGroup("outer", [*errors[:-1], group])


STOPS = [
    Canceled(),
    Interrupted(),
    Superseded(),
    Forced(),
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
]


@pytest.mark.parametrize("error", STOPS, ids=repr)
@pytest.mark.parametrize("group", [lambda error: error, deep])
@pytest.mark.parametrize("reason", [Canceled(), Interrupted(), Superseded()], ids=repr)
def test_the_reason_for_which_the_run_was_asked_to_stop_decides(run, error, group, reason):
    """In an exception group too: task groups raise one."""
    run.stop(reason)
    assert Stopped(reason=reason) == raised(group(error), run)


@pytest.mark.parametrize("error", [Forced(), asyncio.CancelledError(), deep(TimedOut())])
def test_an_attempt_that_took_too_long_fails_and_may_be_retried(run, error):
    """The next one may be faster."""
    run.stop(TimedOut())
    ending = raised(error, run)
    assert ("timeout", True) == (ending.error.kind, ending.retryable)


@pytest.mark.parametrize("error", STOPS, ids=repr)
def test_a_stop_that_nobody_asked_for_is_an_exception(run, error):
    """`raise Superseded` in a handler would make its job vanish."""
    ending = raised(error, run)
    assert ("exception", True) == (ending.error.kind, ending.retryable)


def test_an_error_after_the_request_to_stop_is_an_error(run):
    """The handler did not end because of the request."""
    run.stop(Canceled())
    assert "exception" == raised(OSError("too late"), run).error.kind


LATER = RetryLater(after=timedelta(minutes=1), reason="busy")
LATEST = RetryLater(after=timedelta(minutes=2), reason="busier")


@pytest.mark.parametrize(
    "error, kind, message",
    [
        (deep(Reject("never")), "rejected", "never"),
        (deep(InputError("no such month")), "input-error", "no such month"),
        (deep(LATER), "retry-later", "busy"),
        (deep(LATER, LATEST, LATER), "retry-later", "busier"),
        (deep(LATER, InputError("no such month"), OSError()), "input-error", "no such month"),
        (deep(LATER, InputError("no such month"), Reject("never")), "rejected", "never"),
    ],
)
def test_in_a_group_reject_comes_before_input_error_before_retry_later(run, error, kind, message):
    """What ends the job comes first; of several delays the longest."""
    ending = raised(error, run)
    assert (kind, message) == (ending.error.kind, ending.error.message)
    assert isinstance(ending, Deferred) is (kind == "retry-later")


def test_a_group_of_other_errors_is_an_exception(run):
    """Its traceback shows all of them."""
    ending = raised(deep(OSError("away")), run)
    assert ("exception", "ExceptionGroup", True) == (ending.error.kind, ending.error.exception, ending.retryable)
    assert "OSError: away" in ending.error.traceback


def test_tasks_of_a_task_group_may_reject_their_job(run):
    """`asyncio.TaskGroup` raises an exception group."""

    async def fail():
        raise Reject("never")

    async def handler(params: Nothing, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))

    assert "rejected" == end(handler, run).error.kind


class Looked(BaseModel):
    key: str

    @field_validator("key")
    @classmethod
    def _look(cls, key):
        match key:
            case "away":
                raise ConnectionError("the database is away")
            case "exit":
                sys.exit("given up")
            case "unknown":
                raise ValueError("no such key")
            case "later":
                raise LATER
        return key


def look(params: Looked, run: Run) -> Looked:
    return params if params.key != "wrong" else Looked.model_construct(key="away")


@pytest.mark.parametrize(
    "key, expected",
    [
        ("away", ("exception", "ConnectionError", "the database is away", True)),
        ("exit", ("exception", "SystemExit", "given up", True)),
        ("unknown", ("invalid-params", None, "key: Value error, no such key", False)),
    ],
)
def test_a_validator_of_the_params_ends_an_attempt_as_the_handler_does(run, key, expected):
    """What pydantic lets through is an exception: another attempt may succeed."""
    ending = end(look, run, {"key": key})
    assert expected == (ending.error.kind, ending.error.exception, ending.error.message, ending.retryable)


def test_a_validator_may_ask_for_a_later_attempt(run):
    """All that a handler may raise, its validators may."""
    assert LATER.after == end(look, run, {"key": "later"}).after


class Options(BaseModel):
    options: Any

    @model_validator(mode="before")
    @classmethod
    def _change(cls, values):
        values["more"] = object()
        return values


def test_the_params_that_the_authors_code_changes_are_a_copy(run):
    """Every event of the job carries them, and the next attempt gets them."""

    def change(params: Options, run: Run) -> None:
        params.options["token"] = None

    params = {"options": {"token": "secret"}}
    assert isinstance(end(change, run, params), Succeeded)
    assert {"options": {"token": "secret"}} == params


class Answer(BaseModel):
    how: str

    @field_serializer("how")
    def _serialize(self, how):
        match how:
            case "exit":
                sys.exit(3)
            case "away":
                raise ConnectionError("the database is away")
            case "wrong":
                raise ValueError("not serializable")
        return how


@pytest.mark.parametrize(
    "how, kind, exception",
    [
        ("exit", "exception", "SystemExit"),
        ("away", "exception", "ConnectionError"),
        ("wrong", "invalid-result", None),
    ],
)
def test_a_serializer_of_the_result_ends_an_attempt_as_the_handler_does(run, how, kind, exception):
    """It is code of the author too."""

    def answer(params: Nothing, run: Run) -> Answer:
        return Answer(how=how)

    ending = end(answer, run)
    assert (kind, exception) == (ending.error.kind, ending.error.exception)


class Mute(Exception):  # noqa: N818
    def __init__(self, error):
        super().__init__()
        self.error = error

    def __str__(self):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError(), SystemExit(1), KeyboardInterrupt()])
def test_an_exception_without_a_text_is_an_exception(run, error):
    """It has its class and its traceback."""
    ending = raised(Mute(error), run)
    assert ("exception", "Mute", True) == (ending.error.kind, ending.error.exception, ending.retryable)
    assert type(error).__name__ in ending.error.message
    assert "Mute" in ending.error.traceback


def test_a_text_that_takes_too_long_is_a_timeout(run):
    """`Forced` is raised in `__str__`, as anywhere in the author's code."""
    run.stop(TimedOut())
    assert "timeout" == raised(Mute(Forced()), run).error.kind


class RejectedMutely(Reject):
    def __init__(self):
        """Without a reason."""

    def __str__(self):
        raise RuntimeError


class Unnamed(RetryLater):
    def __init__(self):
        """Without a delay."""


class Odd(ExceptionGroup):
    """Its parts can't be read."""

    @property
    def exceptions(self):
        raise SystemExit


def test_exceptions_of_odd_classes_end_the_attempt(run):
    """None of them ends the worker."""
    assert "rejected" == raised(RejectedMutely(), run).error.kind
    assert "exception" == raised(Unnamed(), run).error.kind
    assert isinstance(raised(Odd("odd", [OSError()]), run), Failed)


def test_the_message_of_a_group_names_what_is_in_it(run):
    """A task group says only how many there were. The first three are named."""
    error = raised(ExceptionGroup("two tasks failed", [OSError("no network"), ValueError("no number")]), run).error
    assert "two tasks failed (2 sub-exceptions): OSError: no network; ValueError: no number" == error.message


@pytest.mark.parametrize("program", ["nonexistent-program"])
def test_a_traceback_begins_with_the_line_of_the_author(run, program):
    """It goes on with those of the libraries that the author called, Milepost's too."""

    def handler(params: Nothing, run: Run) -> None:
        run.subprocess([program])

    first, *rest = [line for line in end(handler, run).error.traceback.splitlines() if line.startswith("  File")]
    assert __file__ in first
    assert any("subprocesses.py" in line for line in rest)
