"""Calls a handler and converts its outcome into an event that every reader can decode."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from milepost import Canceled, Interrupted, JobDefinition
from milepost.attempt import Deferred, Ending, Failed, Stopped, Succeeded, attempt, ending_of
from milepost.errors import Forced
from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    JobCanceled,
    JobEvent,
    JobFailed,
    JobInterrupted,
    JobRetrying,
    JobSucceeded,
    decode_event,
    encode_event,
)
from milepost_contracts.values import MAX_RESULT, JobError
from milepost_processor.core.execution import Execution
from milepost_processor.ports.async_runner import AsyncRunner

log = structlog.get_logger(__name__)

RETRY_JITTER = (0.5, 1.0)
RETRY_LATER_LIMIT = 10_000
"""From this attempt on, `RetryLater` fails the job: otherwise a job could be retried forever."""
BLOCKING_REMEDY = "run blocking code with asyncio.to_thread, or in a handler that is not async"


def outcome_of(execution: Execution, definition: JobDefinition, run_async: AsyncRunner) -> JobEvent | None:
    """Call the handler and return the event of its outcome; `None` if another attempt has the job."""
    try:
        outcome = _event(execution, definition, _ending(execution, definition, run_async))
        if outcome is not None:
            decode_event(encode_event(outcome))
    except Exception as error:
        log.warning("outcome_unreportable", type=execution.job.type, exc_info=error)
        return execution.bare_failure(
            f"what the handler returned, raised or reported can't be encoded: {type(error).__name__}"
        )
    return outcome


def _ending(execution: Execution, definition: JobDefinition, run_async: AsyncRunner) -> Ending:
    """Run all of the author's code, and return how it ended."""
    params, run = execution.params, execution.run
    try:
        return execution.guard(lambda: attempt(definition, params, run, lambda one: execution.wait_for(run_async, one)))
    except Forced as forced:  # raised after the handler had ended
        return ending_of(forced, definition, run)


def _event(execution: Execution, definition: JobDefinition, ending: Ending) -> JobEvent | None:
    match ending:
        case Succeeded():
            return _succeeded(execution, definition, ending)
        case Stopped():
            log.info("handler_stopped", type=execution.job.type, forced=execution.forced)
            return _stopped(execution, ending)
        case Deferred():
            return _retry_later(execution, ending)
        case Failed():
            if ending.raised is not None:
                log.warning("handler_raised", type=execution.job.type, exception=ending.error.traceback)
            return _failed_or_retrying(execution, definition, _blaming(execution, ending))


def _succeeded(execution: Execution, definition: JobDefinition, ending: Succeeded) -> JobEvent | None:
    if len(ending.encoded) <= MAX_RESULT:
        return execution.end(JobSucceeded, "succeeded", result=ending.result)
    try:
        with execution.outputs.create("result.json", media_type="application/json", as_result=True) as file:
            file.write(ending.encoded)
    except Exception as error:
        log.warning("result_not_stored", type=execution.job.type, exc_info=error)
        failed = ending_of(error, definition, execution.run)
        return _event(execution, definition, failed)
    return execution.end(JobSucceeded, "succeeded")


def _stopped(execution: Execution, ending: Stopped) -> JobEvent | None:
    match ending.reason:
        case Canceled():
            how = "forced" if execution.forced else "cooperative"
            return execution.end(JobCanceled, "canceled", canceled_how=how)
        case Interrupted():
            return execution.put_back(JobInterrupted, "interrupted", started_at=None)
        case _:  # superseded
            return None


def _blaming(execution: Execution, ending: Failed) -> Failed:
    """Say in the error of an attempt that took too long what it may be that took the time."""
    if ending.error.kind != "timeout" or not execution.blocked_loop:
        return ending
    remark = f"it blocked the event loop for {execution.blocked_loop:.0f} s: {BLOCKING_REMEDY}"
    error = ending.error.model_copy(update={"message": f"{ending.error.message}; {remark}"})
    return replace(ending, error=error)


def _failed(execution: Execution, error: JobError) -> JobEvent:
    return execution.end(JobFailed, _why(error), error=error)


def _failed_or_retrying(execution: Execution, definition: JobDefinition, ending: Failed) -> JobEvent:
    retried = execution.job.retried
    if not ending.retryable or retried >= definition.retries:
        return _failed(execution, ending.error)
    pause = definition.pause(retried) * random.uniform(*RETRY_JITTER)
    return _retrying(execution, ending.error, pause, retried=retried + 1)


def _retry_later(execution: Execution, ending: Deferred) -> JobEvent:
    if execution.job.attempt >= RETRY_LATER_LIMIT:
        message = f"attempt {RETRY_LATER_LIMIT} is the last one that may raise RetryLater"
        return _failed(execution, JobError(kind="retry-later", message=message))
    return _retrying(execution, ending.error, ending.after)


def _retrying(execution: Execution, error: JobError, pause: timedelta, **changes: Any) -> JobEvent:
    return execution.put_back(JobRetrying, _why(error), error=error, run_at=now() + pause, **changes)


def _why(error: JobError) -> str:
    return f"{error.exception or error.kind}: {error.message}"
