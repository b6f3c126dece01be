"""Calls a handler and converts its outcome into an event that every reader can decode."""

import random
import traceback
from collections.abc import Awaitable
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from milepost import (
    Canceled,
    InputError,
    Interrupted,
    JobDefinition,
    Reject,
    RetryLater,
    RunStopped,
    Superseded,
)
from milepost.errors import InvalidResult
from milepost.job import describe_errors
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
from milepost_contracts.values import MAX_ERROR_TEXT, MAX_RESULT, JobError, clipped
from milepost_processor.core.execution import Execution
from milepost_processor.errors import Forced, HandlerExited
from milepost_processor.ports.async_runner import AsyncRunner

log = structlog.get_logger(__name__)

RETRY_JITTER = (0.5, 1.0)
RETRY_LATER_LIMIT = 10_000
"""From this attempt on, `RetryLater` fails the job: otherwise a job could be retried forever."""
_TRACEBACK = 16_000
BLOCKING_REMEDY = "run blocking code with asyncio.to_thread, or in a handler that is not async"


def outcome_of(execution: Execution, definition: JobDefinition, run_async: AsyncRunner) -> JobEvent | None:
    """Call the handler and return the event of its outcome; `None` if another attempt has the job."""
    try:
        outcome = _call(execution, definition, run_async)
        if outcome is not None:
            decode_event(encode_event(outcome))
    except Exception as error:
        log.warning("outcome_unreportable", type=execution.job.type, exc_info=error)
        return execution.bare_failure(
            f"what the handler returned, raised or reported can't be encoded: {type(error).__name__}"
        )
    return outcome


def _call(  # noqa: PLR0911 - one for each thing a handler can do
    execution: Execution, definition: JobDefinition, run_async: AsyncRunner
) -> JobEvent | None:
    try:
        params = definition.params.model_validate(execution.job.params)
    except ValidationError as error:
        return _failed(
            execution, JobError(kind="invalid-params", message=clipped(describe_errors(error), MAX_ERROR_TEXT))
        )
    try:
        with execution.on_this_thread():
            returned = definition.handler(params, execution.run)
            if definition.is_async:
                returned = execution.wait_for(run_async(_contain_exit(returned)))
    except (RunStopped, Forced, CancelledError) as error:
        log.info("handler_stopped", type=execution.job.type, forced=execution.forced)
        return _stopped(execution, definition, execution.run.stopped or error)
    except RetryLater as error:
        return _retry_later(execution, error)
    except Reject as error:
        return _failed(execution, JobError(kind="rejected", message=clipped(str(error), MAX_ERROR_TEXT)))
    except InputError as error:
        return _failed(execution, JobError(kind="input-error", message=clipped(str(error), MAX_ERROR_TEXT)))
    except BaseException as error:
        log.warning("handler_raised", type=execution.job.type, exc_info=error)
        return _failed_or_retrying(execution, definition, _exception_error(error))
    try:
        encoded, result = definition.encode_result(returned)
    except InvalidResult as error:
        return _failed(execution, JobError(kind="invalid-result", message=clipped(str(error), MAX_ERROR_TEXT)))
    if execution.outputs.result is not None and result is not None:
        message = "the handler wrote its result to a file and also returned one"
        return _failed(execution, JobError(kind="invalid-result", message=message))
    if len(encoded) <= MAX_RESULT:
        return execution.end(JobSucceeded, "succeeded", result=result)
    try:
        with execution.outputs.create("result.json", media_type="application/json", as_result=True) as file:
            file.write(encoded)
    except Exception as error:
        log.warning("result_not_stored", type=execution.job.type, exc_info=error)
        return _failed_or_retrying(execution, definition, _exception_error(error))
    return execution.end(JobSucceeded, "succeeded")


def _stopped(execution: Execution, definition: JobDefinition, reason: BaseException) -> JobEvent | None:
    match reason:
        case Canceled():
            how = "forced" if execution.forced else "cooperative"
            return execution.end(JobCanceled, "canceled", canceled_how=how)
        case Interrupted():
            # An interruption does not count: the next attempt has the same number.
            number = execution.job.attempt - 1
            return execution.put_back(JobInterrupted, "interrupted", attempt=number, started_at=None)
        case Superseded():
            return None
        case CancelledError():
            return _failed_or_retrying(execution, definition, _exception_error(reason))
        case _:
            message = f"the attempt took longer than the {execution.job.max_runtime} that its type allows"
            if execution.blocked_loop:
                message += f"; it blocked the event loop for {execution.blocked_loop:.0f} s: {BLOCKING_REMEDY}"
            return _failed_or_retrying(execution, definition, JobError(kind="timeout", message=message))


def _failed(execution: Execution, error: JobError) -> JobEvent:
    return execution.end(JobFailed, _why(error), error=error)


def _failed_or_retrying(execution: Execution, definition: JobDefinition, error: JobError) -> JobEvent:
    retried = execution.job.retried
    if retried >= definition.retries:
        return _failed(execution, error)
    pause = definition.pause(retried) * random.uniform(*RETRY_JITTER)
    return _retrying(execution, error, pause, retried=retried + 1)


def _retry_later(execution: Execution, asked: RetryLater) -> JobEvent:
    error = JobError(kind="retry-later", message=clipped(str(asked), MAX_ERROR_TEXT))
    if execution.job.attempt >= RETRY_LATER_LIMIT:
        message = f"attempt {RETRY_LATER_LIMIT} is the last one that may raise RetryLater"
        return _failed(execution, JobError(kind="retry-later", message=message))
    return _retrying(execution, error, asked.after)


def _retrying(execution: Execution, error: JobError, pause: timedelta, **changes: Any) -> JobEvent:
    return execution.put_back(JobRetrying, _why(error), error=error, run_at=now() + pause, **changes)


def _why(error: JobError) -> str:
    return f"{error.exception or error.kind}: {error.message}"


async def _contain_exit(handler: Awaitable[Any]) -> Any:
    """Await the handler; convert SystemExit and KeyboardInterrupt, which would end the event loop, into an error."""
    try:
        return await handler
    except (SystemExit, KeyboardInterrupt) as error:
        raise HandlerExited(repr(error)) from error


def _exception_error(error: BaseException) -> JobError:
    text = "".join(traceback.format_exception(error))
    return JobError(
        kind="exception",
        message=clipped(str(error), MAX_ERROR_TEXT) or type(error).__name__,
        exception=type(error).__qualname__[:200],
        traceback=text[-_TRACEBACK:].encode(errors="replace").decode(),
    )
