"""All that becomes of a job, attempt by attempt, as a processor would have it; pauses are noted, and not made."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from pydantic import ValidationError

from milepost.errors import Canceled, InputError, Interrupted, InvalidResult, Reject, RetryLater, RunStopped, TimedOut
from milepost.job import JobDefinition, definition_of, places
from milepost.run import File
from milepost.testing.attempts import RecordingRun, call
from milepost_contracts.values import MAX_MESSAGE, Items, JobError, Progress, fitting

MOST_CALLS = 1_000
"""A handler that always asks to be called again is a mistake of the test."""


@dataclass(kw_only=True)
class JobOutcome:
    """What became of a job."""

    status: Literal["succeeded", "failed", "canceled"]
    #: What the handler returned, as the JSON value that a client would get.
    result: Any = None
    #: Why it failed.
    error: JobError | None = None
    #: How each call of the handler ended: `succeeded`, `interrupted`, `ValueError: …`.
    attempts: list[str] = field(default_factory=list)
    #: About how long the job would have waited before each further attempt.
    pauses: list[timedelta] = field(default_factory=list)
    #: Every progress report of all attempts, in order.
    progress: list[Progress] = field(default_factory=list)
    #: Of the last attempt.
    items: Items = field(default_factory=Items)
    #: What the last attempt wrote, by name.
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    #: What was saved last.
    saved_state: Any = None


def run_job(
    handler: Any,
    params: Mapping[str, Any],
    *,
    files: Sequence[File] = (),
    cancel_at: int | None = None,
    interrupt_at: int | Sequence[int] = (),
    saved_state: Any = None,
) -> JobOutcome:
    """Run a job to its end: retries as its type allows, resumes with what was saved, cancels.

    Args:
        handler: A function that `@job` decorates, sync or async.
        params: As a client would send them.
        files: What `run.files` holds; `MemoryFile("name", b"content")`.
        cancel_at: Cancel the job after so many progress reports in all.
        interrupt_at: Interrupt the first attempt after so many reports of its own, and further ones after as many as
            follow: what happens when processors are restarted.
        saved_state: What an attempt before has saved.

    Raises:
        ValueError: The job succeeded before it came to where it was to be stopped.
    """
    definition = definition_of(handler)
    stops = [interrupt_at] if isinstance(interrupt_at, int) else list(interrupt_at)
    outcome = JobOutcome(status="failed", saved_state=saved_state)
    attempt, retried = 1, 0
    for number in range(MOST_CALLS):
        if cancel_at is not None and len(outcome.progress) >= cancel_at:
            outcome.status, outcome.error = "canceled", None  # before the next attempt began
            return outcome
        stop_at: dict[int, RunStopped] = {stops[number]: Interrupted()} if number < len(stops) else {}
        if cancel_at is not None:
            stop_at[cancel_at - len(outcome.progress)] = Canceled()
        run = RecordingRun(attempt=attempt, files=files, saved_state=outcome.saved_state, stop_at=stop_at)
        try:
            _attempt(definition, params, run, outcome)
        except Interrupted:
            _note(outcome, run, "interrupted")
            continue
        except RetryLater as error:
            _note(outcome, run, f"retry-later: {error}")
            outcome.pauses.append(error.after)
        except _Retryable as failure:
            _note(outcome, run, failure.told)
            if retried == definition.retries:
                return outcome  # a failure that was on its way comes before a cancel
            outcome.pauses.append(definition.pause(retried))
            retried += 1
        else:
            _check_reached(outcome, cancel_at, stops[number:])
            return outcome
        attempt += 1
    raise AssertionError(f"the handler was called {MOST_CALLS} times and asks to be called again")


def _check_reached(outcome: JobOutcome, cancel_at: int | None, left: Sequence[int]) -> None:
    """Tell a test that it does not test what it means to.

    Raises:
        ValueError: The job succeeded, and never came to where it was to be stopped.
    """
    reports = len(outcome.progress)
    for name, at in (("cancel_at", cancel_at), ("interrupt_at", left[0] if left else None)):
        if outcome.status == "succeeded" and at is not None:
            raise ValueError(f"{name}={at} was never reached: the job succeeded with {reports} reports in all")


class _Retryable(Exception):  # noqa: N818
    """The attempt failed, and another one may follow."""

    def __init__(self, error: JobError) -> None:
        self.told = f"{error.exception or error.kind}: {error.message}"


def _attempt(definition: JobDefinition, params: Mapping[str, Any], run: RecordingRun, outcome: JobOutcome) -> None:
    """Call the handler and note how the job has ended.

    Raises:
        Interrupted, RetryLater, _Retryable: It has not.
    """
    outcome.status, outcome.error = "failed", None
    try:
        valid = definition.params.model_validate(params)
    except ValidationError as error:
        _fail(outcome, run, "invalid-params", places(error))
        return
    try:
        did = call(definition, valid, run)
    except Canceled:
        outcome.status = "canceled"
        _note(outcome, run, "canceled")
    except (Interrupted, RetryLater):
        raise
    except Reject as error:
        _fail(outcome, run, "rejected", error)
    except InputError as error:
        _fail(outcome, run, "input-error", error)
    except InvalidResult as error:
        _fail(outcome, run, "invalid-result", error)
    except TimedOut as error:
        message = f"the attempt took longer than the {definition.max_runtime} that its type allows"
        outcome.error = JobError(kind="timeout", message=message)
        raise _Retryable(outcome.error) from error
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        kind = type(error).__qualname__
        outcome.error = JobError(kind="exception", message=fitting(str(error), MAX_MESSAGE) or kind, exception=kind)
        raise _Retryable(outcome.error) from error
    else:
        outcome.status, outcome.result = "succeeded", did.result
        _note(outcome, run, "succeeded")


def _fail(outcome: JobOutcome, run: RecordingRun, kind: str, why: object) -> None:
    outcome.error = JobError(kind=kind, message=fitting(str(why), MAX_MESSAGE))
    _note(outcome, run, f"{kind}: {why}")


def _note(outcome: JobOutcome, run: RecordingRun, how: str) -> None:
    outcome.attempts.append(how)
    outcome.progress += run.recorded
    outcome.items = run.report().items
    outcome.outputs = run.outputs.written
    outcome.saved_state = run.saved_state
