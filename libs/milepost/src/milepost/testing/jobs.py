"""Runs a complete job in-process, with retries as on a processor. Delays are recorded, not waited for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from milepost.attempt import Deferred, Ending, Failed, Stopped, Succeeded, attempt
from milepost.errors import Canceled, Interrupted, RunStopped
from milepost.files import File
from milepost.job import definition_of
from milepost.testing.attempts import RecordingRun, masking_of, wait_for
from milepost_contracts.values import Items, JobError, Progress

_OF_THE_HANDLER = (Exception, SystemExit, asyncio.CancelledError, RunStopped, BaseExceptionGroup)
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
    masking = masking_of(definition, params)
    stops = [interrupt_at] if isinstance(interrupt_at, int) else list(interrupt_at)
    outcome = JobOutcome(status="failed", saved_state=saved_state)
    retried = 0
    for number in range(MAX_HANDLER_CALLS):
        if cancel_at is not None and len(outcome.progress) >= cancel_at:
            outcome.status, outcome.error = "canceled", None  # canceled between two attempts
            return outcome
        stop_at: dict[int, RunStopped] = {stops[number]: Interrupted()} if number < len(stops) else {}
        if cancel_at is not None:
            stop_at[cancel_at - len(outcome.progress)] = Canceled()
        run = RecordingRun(
            attempt=number + 1,
            files=files,
            saved_state=outcome.saved_state,
            earlier_outputs=outcome.outputs,
            stop_at=stop_at,
            masking=masking,
        )
        ending = attempt(definition, params, run, wait_for)
        run.close()
        _record(outcome, run, _described(ending))
        outcome.status, outcome.error = "failed", None
        match ending:
            case Stopped(reason=Canceled()):
                outcome.status = "canceled"
                return outcome
            case Stopped():
                pass  # interrupted: the next attempt follows at once
            case Deferred():
                outcome.pauses.append(ending.after)
            case Failed(raised=raised) if raised is not None and not isinstance(raised, _OF_THE_HANDLER):
                raise raised  # Ctrl-C, pytest.skip, a timeout of the test: meant for the test, not for the job
            case Failed():
                outcome.error = ending.error
                if not ending.retryable or retried == definition.retries:
                    return outcome  # the last failure takes precedence over a cancellation
                outcome.pauses.append(definition.pause(retried))
                retried += 1
            case Succeeded():
                outcome.status, outcome.result = "succeeded", ending.result
                _check_reached(outcome, cancel_at, stops[number:])
                return outcome
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


def _described(ending: Ending) -> str:
    """Describe how one call of the handler ended."""
    match ending:
        case Succeeded():
            return "succeeded"
        case Stopped():
            return type(ending.reason).__name__.lower()
        case _:
            return f"{ending.error.exception or ending.error.kind}: {ending.error.message}"


def _record(outcome: JobOutcome, run: RecordingRun, how: str) -> None:
    outcome.attempts.append(how)
    outcome.progress += run.recorded
    outcome.items = run.report().items
    outcome.outputs = {**outcome.outputs, **run.outputs.written}
    outcome.saved_state = run.saved_state
