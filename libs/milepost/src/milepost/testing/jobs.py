"""Runs a complete job in-process, with retries as on a processor. Delays are recorded, not waited for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from pydantic import ValidationError

from milepost.errors import Canceled, InputError, Interrupted, InvalidResult, Reject, RetryLater, RunStopped, TimedOut
from milepost.job import JobDefinition, definition_of, describe_errors
from milepost.run import File
from milepost.testing.attempts import RecordingRun, call
from milepost_contracts.values import MAX_ERROR_TEXT, Items, JobError, Progress, clipped

MAX_HANDLER_CALLS = 1_000
"""Calls of the handler before the test fails: it would be called again for ever."""


@dataclass(kw_only=True)
class JobOutcome:
    """The outcome of a job."""

    status: Literal["succeeded", "failed", "canceled"]
    #: The returned value, as the JSON value that a client would get.
    result: Any = None
    #: Why it failed.
    error: JobError | None = None
    #: How each call of the handler ended: `succeeded`, `interrupted`, `ValueError: …`.
    attempts: list[str] = field(default_factory=list)
    #: The approximate delay before each further attempt; interruptions have none.
    pauses: list[timedelta] = field(default_factory=list)
    #: Every progress report of all attempts, in order.
    progress: list[Progress] = field(default_factory=list)
    #: The items of the last attempt.
    items: Items = field(default_factory=Items)
    #: The contents of the files that its attempts wrote, by name.
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    #: The last saved state, or `None`.
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
    """Run a job to its end, with its retries, resumes from saved state, interruptions and a cancellation.

    Args:
        handler: A function decorated with `@job`, sync or async.
        params: As a client would send them.
        files: The value of `run.files`: `MemoryFile("name", b"content")`.
        cancel_at: Cancel the job after this many progress reports in total.
        interrupt_at: Interrupt the first call of the handler after this many of its reports, as a restart of its
            processor does; a sequence has one number for each of the first calls.
        saved_state: The state that an earlier attempt saved.

    Raises:
        ValueError: The job succeeded before it reached `cancel_at` or `interrupt_at`.
        AssertionError: The handler was called 1,000 times and the job has not ended.
    """
    definition = definition_of(handler)
    stops = [interrupt_at] if isinstance(interrupt_at, int) else list(interrupt_at)
    outcome = JobOutcome(status="failed", saved_state=saved_state)
    attempt, retried = 1, 0
    for number in range(MAX_HANDLER_CALLS):
        if cancel_at is not None and len(outcome.progress) >= cancel_at:
            outcome.status, outcome.error = "canceled", None  # canceled between two attempts
            return outcome
        stop_at: dict[int, RunStopped] = {stops[number]: Interrupted()} if number < len(stops) else {}
        if cancel_at is not None:
            stop_at[cancel_at - len(outcome.progress)] = Canceled()
        run = RecordingRun(
            attempt=attempt,
            files=files,
            saved_state=outcome.saved_state,
            earlier_outputs=outcome.outputs,
            stop_at=stop_at,
        )
        try:
            _attempt(definition, params, run, outcome)
        except Interrupted:
            _record(outcome, run, "interrupted")
            continue
        except RetryLater as error:
            _record(outcome, run, f"retry-later: {error}")
            outcome.pauses.append(error.after)
        except _Retryable as failure:
            _record(outcome, run, failure.description)
            if retried == definition.retries:
                return outcome  # the last failure takes precedence over a cancellation
            outcome.pauses.append(definition.pause(retried))
            retried += 1
        else:
            _check_reached(outcome, cancel_at, stops[number:])
            return outcome
        attempt += 1
    raise AssertionError(f"the handler was called {MAX_HANDLER_CALLS} times and the job has not ended")


def _check_reached(outcome: JobOutcome, cancel_at: int | None, left: Sequence[int]) -> None:
    """Check that a job was stopped where the test wanted.

    Raises:
        ValueError: The job succeeded without reaching `cancel_at` or `interrupt_at`.
    """
    reports = len(outcome.progress)
    for name, at in (("cancel_at", cancel_at), ("interrupt_at", left[0] if left else None)):
        if outcome.status == "succeeded" and at is not None:
            raise ValueError(f"{name}={at} was never reached: the job succeeded after {reports} reports")


class _Retryable(Exception):  # noqa: N818
    """The attempt failed, and may be retried."""

    def __init__(self, error: JobError) -> None:
        self.description = f"{error.exception or error.kind}: {error.message}"


def _attempt(definition: JobDefinition, params: Mapping[str, Any], run: RecordingRun, outcome: JobOutcome) -> None:
    """Call the handler and record how the job ended.

    Raises:
        Interrupted, RetryLater, _Retryable: The job has not ended.
    """
    outcome.status, outcome.error = "failed", None
    try:
        valid = definition.params.model_validate(params)
    except ValidationError as error:
        _fail(outcome, run, "invalid-params", describe_errors(error))
        return
    try:
        done = call(definition, valid, run)
    except Canceled:
        outcome.status = "canceled"
        _record(outcome, run, "canceled")
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
        outcome.error = JobError(kind="exception", message=clipped(str(error), MAX_ERROR_TEXT) or kind, exception=kind)
        raise _Retryable(outcome.error) from error
    else:
        outcome.status, outcome.result = "succeeded", done.result
        _record(outcome, run, "succeeded")


def _fail(outcome: JobOutcome, run: RecordingRun, kind: str, why: object) -> None:
    outcome.error = JobError(kind=kind, message=clipped(str(why), MAX_ERROR_TEXT))
    _record(outcome, run, f"{kind}: {why}")


def _record(outcome: JobOutcome, run: RecordingRun, how: str) -> None:
    outcome.attempts.append(how)
    outcome.progress += run.recorded
    outcome.items = run.report().items
    outcome.outputs = {**outcome.outputs, **run.outputs.written}
    outcome.saved_state = run.saved_state
