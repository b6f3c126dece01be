"""What `@job` reads of a handler: whether it can be one, and the types of its params and its result."""

import functools
import inspect
import typing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter

from milepost.errors import InvalidDefinition

IMPORT_REMEDY = "Import what annotations need at run time too, not only under `if TYPE_CHECKING:`."


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The types of a handler."""

    params: type[BaseModel]
    result: TypeAdapter[Any]


def read_signature(handler: Any, name: str) -> Signature:
    """Return the types of a handler.

    Args:
        handler: A function or another callable that takes `(params, run)`.
        name: What the handler is, for errors.

    Raises:
        InvalidDefinition: It can't be a handler. The message names the remedy.
    """
    if problem := _unusable_shape(handler):
        raise InvalidDefinition(f"{name} {problem}")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError, NameError) as error:
        raise InvalidDefinition(f"{name} has no signature that can be read: {error}") from error
    if not _takes_params_and_run(signature):
        bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
        shown = signature.replace(parameters=bare, return_annotation=signature.empty)
        is_wrapper = any(one.kind is one.VAR_POSITIONAL for one in bare)
        hint = ": its decorator must use functools.wraps" if is_wrapper else ""
        raise InvalidDefinition(f"{name} must take (params, run), not {shown}{hint}")
    namespace = namespace_of(handler)
    params = _resolved(signature.parameters["params"].annotation, namespace, f"params in {name}")
    if not (inspect.isclass(params) and issubclass(params, BaseModel)):
        raise InvalidDefinition(f"params in {name} must be annotated with a pydantic model")
    returned = signature.return_annotation
    result = Any if returned is signature.empty else _resolved(returned, namespace, f"the result of {name}")
    return Signature(params=params, result=_result_type(result, name))


def reason_of(error: Exception) -> str:
    """Return in one line why pydantic can't use a type, and what to do if a part of it was not imported."""
    reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    is_undefined = isinstance(error, PydanticUserError) and error.code == "class-not-fully-defined"
    return f"{reason}. {IMPORT_REMEDY}" if is_undefined else reason


def function_of(handler: Any) -> Any:
    """Return the function that the author wrote: without partials, and decorators that use `functools.wraps`."""
    while True:
        written = inspect.unwrap(handler)
        if isinstance(written, functools.partial):
            handler = written.func
        elif inspect.isroutine(written):
            return written
        else:
            handler = type(written).__call__


def handler_name(handler: Any, type: str) -> str:
    """Return what errors call a handler."""
    named = handler if hasattr(handler, "__qualname__") or not callable(handler) else function_of(handler)
    return f"the handler {getattr(named, '__qualname__', repr(named))} of the job type {type!r}"


def namespace_of(handler: Any) -> dict[str, Any]:
    """Return the namespace of the module in which a handler's function was written."""
    found: dict[str, Any] = getattr(function_of(handler), "__globals__", {})
    return found


def line_of(handler: Any) -> str:
    """Return the file and line of a handler."""
    code = getattr(function_of(handler), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "in a compiled module"


def _unusable_shape(handler: Any) -> str | None:
    """Return why the object can't be a handler, and the remedy."""
    if inspect.isclass(handler):
        return "is a class: decorate a function"
    if inspect.ismethod(handler) or isinstance(handler, staticmethod | classmethod):
        return "is a method: decorate a function at the top level of the module"
    if not callable(handler):
        return "is not callable: decorate a function"
    called = handler if inspect.isroutine(handler) or isinstance(handler, functools.partial) else type(handler).__call__
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        return "is a generator: return a list, or call run.emit(item) in place of yield"
    return None


def _takes_params_and_run(signature: inspect.Signature) -> bool:
    try:
        signature.bind(object(), object())
    except TypeError:
        return False
    return list(signature.parameters)[:2] == ["params", "run"]


def _resolved(annotation: Any, namespace: dict[str, Any], what: str) -> Any:
    """Return the type that an annotation means; `run` needs none, so its import may be for type checkers alone."""
    try:
        return typing.get_type_hints(SimpleNamespace(__annotations__={"type": annotation}), namespace)["type"]
    except NameError as error:
        raise InvalidDefinition(f"the annotation of {what} can't be read: {error}. {IMPORT_REMEDY}") from error
    except Exception as error:
        raise InvalidDefinition(f"the annotation of {what} can't be read: {error}") from error


def _result_type(annotation: Any, name: str) -> TypeAdapter[Any]:
    try:
        result: TypeAdapter[Any] = TypeAdapter(annotation)
        result.json_schema(mode="serialization")
    except PydanticUserError as error:
        raise InvalidDefinition(f"the return type of {name} has no JSON form: {reason_of(error)}") from error
    if _has_generator(result.core_schema):
        raise InvalidDefinition(
            f"the return type of {name} has an Iterable or a Generator, which is read only once: annotate a list"
        )
    return result


def _has_generator(schema: Any) -> bool:
    """Whether a core schema of pydantic has a part that is validated and serialized lazily."""
    stack = [schema]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if one.get("type") == "generator":
                return True
            stack += [inner for key, inner in one.items() if key not in {"metadata", "default"}]
        elif isinstance(one, list | tuple):
            stack += one
    return False
