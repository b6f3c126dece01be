"""The `@job` decorator, and what it records of a handler."""

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
from milepost_contracts.fleet import JobType
from milepost_contracts.values import MAX_DEPTH, MAX_RUNTIME, WORD, too_deep

Handler = Callable[[Any, Run], Any] | Callable[[Any, Run], Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Any])

BACKOFF = timedelta(seconds=2)
"""About how long the first retry waits; each further one waits twice as long, up to `LONGEST_BACKOFF`."""
LONGEST_BACKOFF = timedelta(hours=1)
MOST_RETRIES = 1_000
LONGEST_RUNTIME = timedelta(days=30)

_MARK = "__milepost_job__"


@dataclass(frozen=True, kw_only=True)
class JobDefinition:
    """A handler and everything that is announced of it."""

    type: str
    queue: str
    handler: Handler
    params: builtins.type[BaseModel]
    result: TypeAdapter[Any]
    title: str
    description: str
    retries: int = 0
    backoff: timedelta = BACKOFF
    max_runtime: timedelta = MAX_RUNTIME

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.handler)

    def pause(self, retried: int) -> timedelta:
        """About how long the next retry waits after so many."""
        return min(LONGEST_BACKOFF, self.backoff * (1 << min(retried, 30)))

    def encode_result(self, returned: Any) -> tuple[bytes, Any]:
        """Return what the handler returned as JSON, and as the value that it is to its readers.

        Raises:
            InvalidResult: It is not what the handler is annotated to return, or has no JSON form.
        """
        try:
            encoded = self.result.dump_json(self.result.validate_python(returned))
            result = pydantic_core.from_json(encoded, allow_inf_nan=False)
        except ValidationError as error:
            raise InvalidResult(f"the handler returned something else than it says: {places(error)}") from error
        except ValueError as error:
            raise InvalidResult(str(error)) from error
        if too_deep(result):
            raise InvalidResult(f"the result may have {MAX_DEPTH} levels")
        return encoded, result

    def announcement(self) -> JobType:
        """What the fleet and its clients are told of this type."""
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
    max_runtime: timedelta = MAX_RUNTIME,
) -> Callable[[H], H]:
    """Make a function the handler of a job type.

    The function takes `params`, a pydantic model of its own, and `run`, a `milepost.Run`; what it returns becomes
    the job's result. It may be async. The function itself stays as it is.

    Args:
        type: Lower-case words with hyphens, unique in the deployment.
        queue: The queue that jobs of this type wait in; processors may serve some queues only.
        title: For people; the first line of the docstring by default.
        retries: How often an attempt that raised, or took too long, is followed by another one. (A job whose worker
            died runs again whatever this says: at least once.)
        backoff: About how long the first retry waits; each further one waits twice as long, an hour at most.
        max_runtime: How long one attempt may take; then it is stopped as a canceled one is, and has failed.

    Raises:
        InvalidDefinition: The name, the signature or a limit does not fit.
    """
    for what, name in (("job type", type), ("queue", queue)):
        if not re.fullmatch(WORD, name):
            raise InvalidDefinition(f"the {what} {name!r} is not lower-case words with hyphens")
    if not 0 <= retries <= MOST_RETRIES:
        raise InvalidDefinition(f"the retries of {type!r} are not within 0 to {MOST_RETRIES}: {retries}")
    for what, length, longest in (
        ("backoff", backoff, LONGEST_BACKOFF),
        ("max_runtime", max_runtime, LONGEST_RUNTIME),
    ):
        if not timedelta(0) < length <= longest:
            raise InvalidDefinition(f"{what} of {type!r} is not within 0 and {longest}: {length}")

    def mark(function: H) -> H:
        definition = _define(function, type, queue, title)
        setattr(function, _MARK, replace(definition, retries=retries, backoff=backoff, max_runtime=max_runtime))
        return function

    return mark


def definition_of(handler: Any) -> JobDefinition:
    """Return what `@job` recorded of a function.

    Raises:
        InvalidDefinition: Nothing: it is no handler.
    """
    found = getattr(handler, _MARK, None)
    if not isinstance(found, JobDefinition):
        raise InvalidDefinition(f"{handler!r} is no handler: it has no @job")
    return found


def places(error: ValidationError) -> str:
    """Say what does not fit, and where."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:20])


def definitions_in(module: types.ModuleType) -> list[JobDefinition]:
    """Return the handlers that a module defines or imports, in the order of their names."""
    found = {getattr(value, _MARK) for value in vars(module).values() if hasattr(value, _MARK)}
    return sorted((d for d in found if isinstance(d, JobDefinition)), key=lambda definition: definition.type)


def _define(function: Callable[..., Any], name: str, queue: str, title: str | None) -> JobDefinition:
    hints = get_type_hints(function)
    parameters = list(inspect.signature(function).parameters)
    if parameters != ["params", "run"]:
        raise InvalidDefinition(f"the handler of {name!r} must take (params, run), and takes ({', '.join(parameters)})")
    params = hints.get("params")
    if not (inspect.isclass(params) and issubclass(params, BaseModel)):
        raise InvalidDefinition(f"params of the handler of {name!r} must be annotated with a pydantic model")
    try:
        result: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
        result.json_schema(mode="serialization")
    except PydanticUserError as error:
        raise InvalidDefinition(f"what the handler of {name!r} returns has no JSON form: {error.message}") from error
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
