"""The `@job` decorator, and the definition that it attaches to a handler."""

import builtins
import inspect
import re
import sys
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from milepost.errors import InvalidDefinition, InvalidResult
from milepost.json_form import is_lazy, to_json
from milepost.masking import SecretsMarked
from milepost.run import Run
from milepost.signature import function_of, handler_name, line_of, namespace_of, read_signature
from milepost_contracts.messages.worker_events import JobType
from milepost_contracts.values import DEFAULT_MAX_RUNTIME, WORD

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
    def name(self) -> str:
        """What errors call the handler."""
        return handler_name(self.handler, self.type)

    def pause(self, retried: int) -> timedelta:
        """Return the approximate delay of the next retry, after `retried` retries."""
        return min(MAX_BACKOFF, self.backoff * (1 << min(retried, 30)))

    def encode_result(self, returned: Any) -> tuple[bytes, Any]:
        """Return the returned value as JSON bytes, and as the plain value that those decode to.

        Raises:
            InvalidResult: It does not match the return annotation, has no JSON form, or is too deep.
        """
        if is_lazy(returned):
            kind = type(returned).__name__
            raise InvalidResult(f"the handler returned a {kind}, which is lazy: return a list, and await what is async")
        try:
            return to_json(self.result.validate_python(returned), "the result", self.result)
        except ValidationError as error:
            raise InvalidResult(f"the result does not match the return annotation: {describe_errors(error)}") from error
        except ValueError as error:
            raise InvalidResult(str(error)) from error

    def params_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the params, in which every secret is marked."""
        return self.params.model_json_schema(schema_generator=SecretsMarked)

    def announcement(self) -> JobType:
        """Return the job type as the processor announces it."""
        return JobType(
            type=self.type,
            queue=self.queue,
            title=self.title,
            description=self.description,
            params_schema=self.params_schema(),
            result_schema=self.result.json_schema(mode="serialization"),
            retries=self.retries,
            max_runtime=self.max_runtime,
        ).with_version()


_declared: list[JobDefinition] = []
"""Every definition, to find those that are in no module's namespace: no processor would run them."""


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

    The function takes `params`, a pydantic model, and `run`, a `milepost.Run`; it returns the job's result, or an
    awaitable of it, as async functions do. Functions with other decorators (below `@job`), partials and objects with
    `__call__` are handlers too; generators, classes and methods are refused. The decorator returns the function itself.

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
        if not isinstance(name, str) or not re.fullmatch(WORD, name):
            raise InvalidDefinition(f'the {what} {name!r} must be lower-case words with hyphens, as in @job("my-job")')
    if not (isinstance(retries, int) and 0 <= retries <= MAX_RETRIES):
        raise InvalidDefinition(f"retries of {type!r} must be 0 to {MAX_RETRIES}: {retries}")
    for what, length, longest in (
        ("backoff", backoff, MAX_BACKOFF),
        ("max_runtime", max_runtime, MAX_RUNTIME),
    ):
        if not (isinstance(length, timedelta) and timedelta(0) < length <= longest):
            raise InvalidDefinition(
                f"{what} of {type!r} must be a timedelta of more than 0 and at most {longest}: {length}"
            )

    def mark(function: H) -> H:
        definition = _define(function, type, queue, title)
        definition = replace(definition, retries=retries, backoff=backoff, max_runtime=max_runtime)
        try:
            setattr(function, _MARK, definition)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidDefinition(f"{definition.name} can't be marked as one: decorate a function") from error
        if sys._getframe(1).f_globals is namespace_of(function):  # noqa: SLF001 - else a helper applied it
            _declared.append(definition)
        return function

    return mark


def definition_of(handler: Any) -> JobDefinition:
    """Return the definition that `@job` attached to a function.

    Raises:
        InvalidDefinition: The function has no `@job`, or has another decorator above it.
    """
    found = inspect.getattr_static(handler, _MARK, None)
    if not isinstance(found, JobDefinition):
        raise InvalidDefinition(f"{handler!r} is not a handler: it has no @job decorator")
    if found.handler is not handler:
        raise InvalidDefinition(f"{found.name} has a decorator above @job, which would not run: put @job above it")
    return found


def describe_errors(error: ValidationError) -> str:
    """Return the first 20 validation errors as text, each with its location."""
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']}" for one in error.errors()[:20])


def definitions_in(module: types.ModuleType) -> list[JobDefinition]:
    """Return the definitions of the handlers in a module's namespace, sorted by type.

    Raises:
        InvalidDefinition: A handler that was defined there is not in the namespace any more.
    """
    marked = [value for value in vars(module).values() if inspect.getattr_static(value, _MARK, None)]
    by_identity = {id(handler): definition_of(handler) for handler in marked}  # an alias is no second handler
    found = list(by_identity.values())
    for declared in _declared:
        if namespace_of(declared.handler) is vars(module) and declared not in found:
            raise InvalidDefinition(
                f"{declared.name} ({line_of(declared.handler)}) can't be found in its module: it is replaced by a "
                "later definition or another decorator, or is not at the top level. Give each handler a name of its "
                "own there, and put one @job above its other decorators."
            )
    return sorted(found, key=lambda definition: definition.type)


def _define(function: Any, type: str, queue: str, title: str | None) -> JobDefinition:
    signature = read_signature(function, handler_name(function, type))
    first, _, rest = (inspect.getdoc(function_of(function)) or "").partition("\n")
    return JobDefinition(
        type=type,
        queue=queue,
        handler=function,
        params=signature.params,
        result=signature.result,
        title=title or first.rstrip(".") or type,
        description=rest.strip(),
    )
