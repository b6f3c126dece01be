"""What becomes of one call of a handler: whatever it does, an event says so that every reader understands."""

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
from milepost.job import places
from milepost_contracts.envelope import now
from milepost_contracts.events import (
    JobCanceled,
    JobEvent,
    JobFailed,
    JobInterrupted,
    JobRetrying,
    JobSucceeded,
    decode_event,
    encode_event,
)
from milepost_contracts.values import MAX_MESSAGE, MAX_RESULT, JobError, fitting
from milepost_processor.errors import Forced, HandlerExited
from milepost_processor.execution import Execution
from milepost_processor.ports import AsyncRunner

log = structlog.get_logger(__name__)

JITTER = (0.5, 1.0)
MOST_ATTEMPTS = 10_000
"""A handler that always asks to be called again comes to an end too."""
_TRACEBACK = 16_000


def outcome_of(execution: Execution, definition: JobDefinition, run_async: AsyncRunner) -> JobEvent | None:
    """Call the handler and return what its end means; nothing if another attempt has the job."""
    try:
        outcome = _call(execution, definition, run_async)
        if outcome is not None:
            decode_event(encode_event(outcome))
    except Exception as error:
        log.warning("outcome_unreportable", type=execution.job.type, exc_info=error)
        return execution.bare_failure(
            f"the handler ended, and what it returned, raised or reported can't be told: {type(error).__name__}"
        )
    return outcome


def _call(  # noqa: PLR0911 - one for each thing a handler can do
    execution: Execution, definition: JobDefinition, run_async: AsyncRunner
) -> JobEvent | None:
    try:
        params = definition.params.model_validate(execution.job.params)
    except ValidationError as error:
        return _failed(execution, JobError(kind="invalid-params", message=fitting(places(error), MAX_MESSAGE)))
    try:
        with execution.on_this_thread():
            returned = definition.handler(params, execution.run)
            if definition.is_async:
                returned = execution.waits_for(run_async(_contained(returned)))
    except (RunStopped, Forced, CancelledError) as error:
        log.info("handler_stopped", type=execution.job.type, forced=execution.forced)
        return _stopped(execution, definition, execution.run.stopped or error)
    except RetryLater as error:
        return _retry_later(execution, error)
    except Reject as error:
        return _failed(execution, JobError(kind="rejected", message=fitting(str(error), MAX_MESSAGE)))
    except InputError as error:
        return _failed(execution, JobError(kind="input-error", message=fitting(str(error), MAX_MESSAGE)))
    except BaseException as error:
        log.warning("handler_raised", type=execution.job.type, exc_info=error)
        return _failed_or_retrying(execution, definition, _described(error))
    try:
        encoded, result = definition.encode_result(returned)
    except InvalidResult as error:
        return _failed(execution, JobError(kind="invalid-result", message=fitting(str(error), MAX_MESSAGE)))
    if execution.outputs.result is not None and result is not None:
        message = "the handler wrote its result to a file, and returned another one"
        return _failed(execution, JobError(kind="invalid-result", message=message))
    if len(encoded) <= MAX_RESULT:
        return execution.end(JobSucceeded, "succeeded", result=result)
    try:
        with execution.outputs.create("result.json", media_type="application/json", as_result=True) as file:
            file.write(encoded)
    except Exception as error:
        log.warning("result_not_stored", type=execution.job.type, exc_info=error)
        return _failed_or_retrying(execution, definition, _described(error))
    return execution.end(JobSucceeded, "succeeded")


def _stopped(execution: Execution, definition: JobDefinition, reason: BaseException) -> JobEvent | None:
    match reason:
        case Canceled():
            how = "forced" if execution.forced else "cooperative"
            return execution.end(JobCanceled, "canceled", canceled_how=how)
        case Interrupted():
            # Not the handler's doing: the next attempt has the same number.
            number = execution.job.attempt - 1
            return execution.put_back(JobInterrupted, "interrupted", attempt=number, started_at=None)
        case Superseded():
            return None
        case CancelledError():
            return _failed_or_retrying(execution, definition, _described(reason))
        case _:
            message = f"the attempt took longer than the {execution.job.max_runtime} that its type allows"
            return _failed_or_retrying(execution, definition, JobError(kind="timeout", message=message))


def _failed(execution: Execution, error: JobError) -> JobEvent:
    return execution.end(JobFailed, _why(error), error=error)


def _failed_or_retrying(execution: Execution, definition: JobDefinition, error: JobError) -> JobEvent:
    retried = execution.job.retried
    if retried >= definition.retries:
        return _failed(execution, error)
    pause = definition.pause(retried) * random.uniform(*JITTER)
    return _retrying(execution, error, pause, retried=retried + 1)


def _retry_later(execution: Execution, asked: RetryLater) -> JobEvent:
    error = JobError(kind="retry-later", message=fitting(str(asked), MAX_MESSAGE))
    if execution.job.attempt >= MOST_ATTEMPTS:
        return _failed(execution, JobError(kind="retry-later", message=f"this was attempt {MOST_ATTEMPTS}, the last"))
    return _retrying(execution, error, asked.after)


def _retrying(execution: Execution, error: JobError, pause: timedelta, **changes: Any) -> JobEvent:
    return execution.put_back(JobRetrying, _why(error), error=error, run_at=now() + pause, **changes)


def _why(error: JobError) -> str:
    return f"{error.exception or error.kind}: {error.message}"


async def _contained(handler: Awaitable[Any]) -> Any:
    """Asyncio lets SystemExit and KeyboardInterrupt end the whole loop, and every async handler with it."""
    try:
        return await handler
    except (SystemExit, KeyboardInterrupt) as error:
        raise HandlerExited(repr(error)) from error


def _described(error: BaseException) -> JobError:
    text = "".join(traceback.format_exception(error))
    return JobError(
        kind="exception",
        message=fitting(str(error), MAX_MESSAGE) or type(error).__name__,
        exception=type(error).__qualname__[:200],
        traceback=text[-_TRACEBACK:].encode(errors="replace").decode(),
    )
