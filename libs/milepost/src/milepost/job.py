"""The `@job` decorator, and the definition that it attaches to a handler."""

import builtins
import inspect
import re
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, get_type_hints

import pydantic_core
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from milepost.errors import InvalidDefinition, InvalidResult
from milepost.run import Run
from milepost_contracts.messages.worker_events import JobType
from milepost_contracts.values import DEFAULT_MAX_RUNTIME, MAX_DEPTH, WORD, too_deep

Handler = Callable[[Any, Run], Any] | Callable[[Any, Run], Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Any])

BACKOFF = timedelta(seconds=2)
"""Approximate delay of the first retry; it doubles with each further one, up to `MAX_BACKOFF`."""
MAX_BACKOFF = timedelta(hours=1)
MAX_RETRIES = 1_000
MAX_RUNTIME = timedelta(days=30)

_MARK = "__milepost_job__"


@dataclass(frozen=True, kw_only=True)
class JobDefinition:
    """A handler and its job type."""

    type: str
    queue: str
    handler: Handler
    params: builtins.type[BaseModel]
    result: TypeAdapter[Any]
    title: str
    description: str
    retries: int = 0
    backoff: timedelta = BACKOFF
    max_runtime: timedelta = DEFAULT_MAX_RUNTIME

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.handler)

    def pause(self, retried: int) -> timedelta:
        """Return the approximate delay of the next retry, after `retried` retries."""
        return min(MAX_BACKOFF, self.backoff * (1 << min(retried, 30)))

    def encode_result(self, returned: Any) -> tuple[bytes, Any]:
        """Return the returned value as JSON bytes, and as the plain value that those decode to.

        Raises:
            InvalidResult: It does not match the return annotation, has no JSON form, or is too deep.
        """
        try:
            encoded = self.result.dump_json(self.result.validate_python(returned))
            result = pydantic_core.from_json(encoded, allow_inf_nan=False)
        except ValidationError as error:
            raise InvalidResult(f"the result does not match the return annotation: {describe_errors(error)}") from error
        except ValueError as error:
            raise InvalidResult(str(error)) from error
        if too_deep(result):
            raise InvalidResult(f"the result has more than {MAX_DEPTH} levels")
        return encoded, result

    def announcement(self) -> JobType:
        """Return the job type as the processor announces it."""
        return JobType(
            type=self.type,
            queue=self.queue,
            title=self.title,
            description=self.description,
            params_schema=self.params.model_json_schema(),
            result_schema=self.result.json_schema(mode="serialization"),
            retries=self.retries,
            max_runtime=self.max_runtime,
        )


def job(
    type: str,
    *,
    queue: str = "default",
    title: str | None = None,
    retries: int = 0,
    backoff: timedelta = BACKOFF,
    max_runtime: timedelta = DEFAULT_MAX_RUNTIME,
) -> Callable[[H], H]:
    """Make a function the handler of a job type.

    The function takes `params`, a pydantic model, and `run`, a `milepost.Run`; it returns the job's result. It may be
    async. The decorator returns the function itself.

    Args:
        type: Lower-case words with hyphens, unique in the deployment.
        queue: The queue of this type's jobs; a processor may serve only some queues.
        title: A short description; by default the first line of the docstring.
        retries: How many times a job is retried after an attempt that raised or timed out. A job whose processor died
            is redelivered regardless of this: execution is at least once.
        backoff: Approximate delay of the first retry; it doubles with each further one, up to an hour.
        max_runtime: Time limit of one attempt; an attempt that exceeds it is stopped like a canceled one, and fails.

    Raises:
        InvalidDefinition: A name, the signature or a limit is invalid.
    """
    for what, name in (("job type", type), ("queue", queue)):
        if not re.fullmatch(WORD, name):
            raise InvalidDefinition(f"the {what} {name!r} must be lower-case words with hyphens")
    if not 0 <= retries <= MAX_RETRIES:
        raise InvalidDefinition(f"retries of {type!r} must be 0 to {MAX_RETRIES}: {retries}")
    for what, length, longest in (
        ("backoff", backoff, MAX_BACKOFF),
        ("max_runtime", max_runtime, MAX_RUNTIME),
    ):
        if not timedelta(0) < length <= longest:
            raise InvalidDefinition(f"{what} of {type!r} must be more than 0 and at most {longest}: {length}")

    def mark(function: H) -> H:
        definition = _define(function, type, queue, title)
        setattr(function, _MARK, replace(definition, retries=retries, backoff=backoff, max_runtime=max_runtime))
        return function

    return mark


def definition_of(handler: Any) -> JobDefinition:
    """Return the definition that `@job` attached to a function.

    Raises:
        InvalidDefinition: The function has no `@job`.
    """
    found = getattr(handler, _MARK, None)
    if not isinstance(found, JobDefinition):
        raise InvalidDefinition(f"{handler!r} is not a handler: it has no @job decorator")
    return found


def describe_errors(error: ValidationError) -> str:
    """Return the first 20 validation errors as text, each with its location."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']}" for one in error.errors()[:20])


def definitions_in(module: types.ModuleType) -> list[JobDefinition]:
    """Return the definitions of the handlers in a module's namespace, sorted by type."""
    found = {getattr(value, _MARK) for value in vars(module).values() if hasattr(value, _MARK)}
    return sorted((d for d in found if isinstance(d, JobDefinition)), key=lambda definition: definition.type)


def _define(function: Callable[..., Any], name: str, queue: str, title: str | None) -> JobDefinition:
    hints = get_type_hints(function)
    parameters = list(inspect.signature(function).parameters)
    if parameters != ["params", "run"]:
        raise InvalidDefinition(f"the handler of {name!r} must take (params, run), not ({', '.join(parameters)})")
    params = hints.get("params")
    if not (inspect.isclass(params) and issubclass(params, BaseModel)):
        raise InvalidDefinition(f"params of the handler of {name!r} must be annotated with a pydantic model")
    try:
        result: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
        result.json_schema(mode="serialization")
    except PydanticUserError as error:
        raise InvalidDefinition(f"the return type of {name!r} has no JSON form: {error.message}") from error
    text = inspect.getdoc(function) or ""
    first, _, rest = text.partition("\n")
    return JobDefinition(
        type=name,
        queue=queue,
        handler=function,
        params=params,
        result=result,
        title=title or first.rstrip(".") or name,
        description=rest.strip(),
    )
