"""One attempt at a job: runs the code of the handler's author, and returns how it ended.

Processors and the test kit share it. All code of the author runs within `attempt`: validators of the params, the
handler, serializers of the result, and what turns an exception into text. Whatever it raises is an ending.
"""

import asyncio
import concurrent.futures
import copy
import inspect
import traceback
import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from milepost.errors import InputError, InvalidResult, Reject, RetryLater, RunStopped, TimedOut
from milepost.job import JobDefinition, describe_errors
from milepost.run import Run
from milepost_contracts.values import MAX_ERROR_TEXT, JobError, clipped

#: Waits for an awaitable and returns its result.
Waiter = Callable[[Awaitable[Any]], Any]

_MAX_TRACEBACK = 16_000
_MAX_NAME = 200
_CANCELLED = "nobody asked the job to stop: its own code, or that of another job of this process, cancelled its task"
_OWN_MODULES = ("milepost.", "milepost_processor.")
_MAX_LEAVES = 3
"""How many exceptions of a group its message names."""


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    """The handler returned."""

    #: The result as JSON.
    encoded: bytes
    #: The result as a plain value.
    result: Any


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The handler ended because it was asked to; a time limit is no such end, but a failure."""

    #: `Canceled`, `Interrupted` or `Superseded`.
    reason: RunStopped


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """The handler asked to be called again."""

    error: JobError
    after: timedelta


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The attempt failed."""

    error: JobError
    #: Whether another attempt may end otherwise.
    retryable: bool = False
    #: The exception, if the attempt failed because of one that nobody expects.
    raised: BaseException | None = None


Ending = Succeeded | Stopped | Deferred | Failed


def attempt(definition: JobDefinition, params: Mapping[str, Any], run: Run, wait_for: Waiter) -> Ending:
    """Call the handler once, and return how it ended. The secrets of the run are masked in the texts of its error.

    In an exception group, however deep, one exception decides: what stops a run that was asked to stop, else `Reject`,
    else `InputError`, else the `RetryLater` with the longest delay. Any other group is an exception like all others.

    Args:
        definition: The handler.
        params: As they were submitted.
        run: The handler's access to its job.
        wait_for: Waits for what an async handler returns.
    """
    try:
        try:
            # A copy: what the author's code changes in it would be published as the job's params.
            valid = definition.params.model_validate(copy.deepcopy(params))
        except ValidationError as error:
            return _failed(run, "invalid-params", describe_errors(error))
        encoded, result = call(definition, valid, run, wait_for)
        return Succeeded(encoded=encoded, result=result)
    except BaseException as raised:  # noqa: BLE001 - whatever it is, the attempt has ended
        return ending_of(raised, definition, run)


def call(definition: JobDefinition, params: BaseModel, run: Run, wait_for: Waiter) -> tuple[bytes, Any]:
    """Call the handler once, and return its result as JSON and as a plain value. What the handler raises is raised.

    Raises:
        InvalidResult: The returned value does not match the return annotation, or has no JSON form.
    """
    returned = definition.handler(params, run)
    if inspect.isawaitable(returned):
        returned = wait_for(returned)
    encoded, result = definition.encode_result(returned)
    if run.has_result_file and result is not None:
        raise InvalidResult("the handler wrote its result to a file and also returned one")
    return encoded, result


def ending_of(raised: BaseException, definition: JobDefinition, run: Run) -> Ending:
    """Return how an attempt ended that raised this; code of the exception's author may run.

    What stops a run counts only if the run was asked to stop: `raise Canceled` is an exception like any other.
    """
    try:
        leaves = _leaves(raised)
        if run.stopped is not None and any(isinstance(one, _STOPS) for one in leaves):
            return _stopped(run, run.stopped, definition)
        if isinstance(raised, InvalidResult):
            return _failed(run, "invalid-result", _text(raised))
        return _asked_for(leaves, run) or Failed(error=_exception(raised, run), retryable=True, raised=raised)
    except BaseException as odd:  # noqa: BLE001 - methods of the exception may raise anything
        if run.stopped is not None and isinstance(odd, RunStopped):
            return _stopped(run, run.stopped, definition)
        name = type.__repr__(type(raised))
        message = f"{name} was raised and can't be described: that raised {type(odd).__name__}"
        return Failed(error=_error(run, "exception", message), retryable=True, raised=raised)


_STOPS = (RunStopped, asyncio.CancelledError, concurrent.futures.CancelledError)
"""What a handler raises that ends because it was asked to."""


def _leaves(raised: BaseException) -> list[BaseException]:
    """Return the exception, or those in its groups, in order."""
    leaves, stack = [], [raised]
    while stack:
        one = stack.pop()
        if isinstance(one, BaseExceptionGroup):
            stack += reversed(one.exceptions)
        else:
            leaves.append(one)
    return leaves


def _asked_for(leaves: list[BaseException], run: Run) -> Ending | None:
    """Return the ending that one of the exceptions asks for by its class."""
    for kind, final in (("rejected", Reject), ("input-error", InputError)):
        for one in leaves:
            if isinstance(one, final):
                return _failed(run, kind, _text(one))
    later = [one for one in leaves if isinstance(one, RetryLater)]
    if not later:
        return None
    longest = max(later, key=lambda one: one.after)
    return Deferred(error=_error(run, "retry-later", _text(longest)), after=longest.after)


def _stopped(run: Run, reason: RunStopped, definition: JobDefinition) -> Ending:
    if isinstance(reason, TimedOut):
        message = f"the attempt took longer than the {definition.max_runtime} that its type allows"
        return Failed(error=_error(run, "timeout", message), retryable=True)
    return Stopped(reason=reason)


def _failed(run: Run, kind: str, message: str) -> Failed:
    return Failed(error=_error(run, kind, message))


def _error(run: Run, kind: str, message: str, **details: str) -> JobError:
    return JobError(kind=kind, message=clipped(run.masking(message), MAX_ERROR_TEXT), **details)


def _exception(raised: BaseException, run: Run) -> JobError:
    name = clipped(type(raised).__qualname__, _MAX_NAME)
    text = _text(raised) or (_CANCELLED if isinstance(raised, asyncio.CancelledError) else name)
    if isinstance(raised, BaseExceptionGroup):
        text += ": " + "; ".join(f"{type(one).__name__}: {_text(one)}" for one in _leaves(raised)[:_MAX_LEAVES])
    lines = traceback.format_exception(type(raised), raised, _from_author(raised.__traceback__))
    trace = run.masking("".join(lines))
    return _error(run, "exception", text, exception=name, traceback=clipped(trace[-_MAX_TRACEBACK:], _MAX_TRACEBACK))


def _from_author(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return the traceback from the first line outside of Milepost on; the complete one if there is none."""
    rest = trace
    while rest is not None and str(rest.tb_frame.f_globals.get("__name__")).startswith(_OWN_MODULES):
        rest = rest.tb_next
    return rest or trace


def _text(raised: BaseException) -> str:
    """Return the exception's own words."""
    try:
        return str(raised)
    except RunStopped:
        raise
    except BaseException as error:  # noqa: BLE001 - its author's code may raise anything
        return f"{type(raised).__name__} has no text: str() of it raised {type(error).__name__}"
