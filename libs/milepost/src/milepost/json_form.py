"""The JSON form of what a handler returns, emits or saves: one rule for all three.

JSON has no NaN and no infinity, an object has each key once, and a value is complete: what JSON would change or lose
is refused, and the error names the place.
"""

import marshal
import math
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pydantic_core
from pydantic import TypeAdapter

from milepost_contracts.values import MAX_DEPTH, too_deep

ANY: TypeAdapter[Any] = TypeAdapter(Any)
"""The type of a value that has no annotation."""
#: The place of an outer value, and the key or index in it.
_Place = tuple["_Place | None", Any]
_LAZY = (Iterator, AsyncIterable, Awaitable)
_PLAIN = frozenset({str, int, bool, type(None)})
"""Most values: they need no further look."""


def to_json(value: Any, what: str, type: TypeAdapter[Any] = ANY) -> tuple[bytes, Any]:
    """Return the value as JSON bytes, and as the plain value that those decode to.

    Serializers of the handler's author run within this call, twice; what they raise is raised, except `ValueError`.

    Args:
        value: An instance of the type.
        what: What the value is, for the error: `the result`.
        type: Its type.

    Raises:
        ValueError: It has no JSON form, or is too deep. The message names the place as a JSON pointer: `/rows/3/mean`.
    """
    if type is ANY and (unchanged := _unchanged(value)) is not None:
        return unchanged
    _refuse_what_changes(_dumped(type, value, what, mode="python"), what)
    dumped = _dumped(type, value, what, mode="json")
    try:
        encoded = pydantic_core.to_json(dumped, inf_nan_mode="constants")
        plain = pydantic_core.from_json(encoded, allow_inf_nan=False)
    except ValueError as error:  # a lone surrogate; or a serializer for JSON alone returned NaN
        _refuse_what_changes(dumped, what)
        raise ValueError(f"{what} has no JSON form: {error}") from error
    if too_deep(plain):
        raise ValueError(f"{what} has more than {MAX_DEPTH} levels")
    return encoded, plain


def _unchanged(value: Any) -> tuple[bytes, Any] | None:
    """Return what `to_json` does, for a value that is JSON already; `None` for any other.

    Written in C throughout: a handler may save a large state, or report many items.
    """
    try:
        marshal.dumps(value)  # exact built-in types only: no code of the author runs, and nothing is lazy
        encoded = pydantic_core.to_json(value, inf_nan_mode="constants")
        plain = pydantic_core.from_json(encoded, allow_inf_nan=False)
    except ValueError:
        return None
    return (encoded, plain) if plain == value and not too_deep(plain) else None


def is_lazy(value: object) -> bool:
    """Whether the value would have to be run or awaited to be had: a generator, another iterator, a coroutine."""
    return isinstance(value, _LAZY)


def _dumped(type: TypeAdapter[Any], value: Any, what: str, *, mode: Literal["json", "python"]) -> Any:
    try:
        return type.dump_python(value, mode=mode)
    except ValueError as error:
        cause = error.__cause__
        while isinstance(cause, pydantic_core.PydanticSerializationError):
            cause = cause.__cause__
        if cause is not None and not isinstance(cause, ValueError):  # what a serializer of the author raised
            raise cause from None
        raise ValueError(f"{what} has no JSON form: {error}") from error


def _refuse_what_changes(value: Any, what: str) -> None:
    """Raise if JSON would change or lose a part of the value, which consists of containers and of what is none.

    Raises:
        ValueError: The message names one such part.
    """
    stack: list[tuple[int, _Place | None, Any]] = [(0, None, value)]
    while stack:
        depth, place, one = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{what} has more than {MAX_DEPTH} levels, or contains itself")
        problem = None
        if type(one) in _PLAIN:
            continue
        if isinstance(one, dict):
            problem = _same_keys(one)
            stack += [(depth + 1, (place, key), inner) for key, inner in one.items()]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            stack += [(depth + 1, (place, number), inner) for number, inner in enumerate(one)]
        elif isinstance(one, Enum):
            stack.append((depth, place, one.value))
        else:
            problem = _no_json_value(one)
        if problem:
            raise ValueError(f"{what} has no JSON form: {_pointer(place) or 'it'} {problem}")


def _no_json_value(one: object) -> str | None:
    if (isinstance(one, float) and not math.isfinite(one)) or (isinstance(one, Decimal) and not one.is_finite()):
        return f"is {one}, and JSON has no such number. Use None where a number is missing."
    if is_lazy(one):
        return "is a generator or another iterator. Put its elements into a list."
    return None


def _same_keys(one: dict[Any, Any]) -> str | None:
    """Describe two keys that are the same in JSON, if there are any."""
    if all(isinstance(key, str) for key in one):
        return None
    seen: dict[str, Any] = {}
    for key in one:
        try:
            (text,) = pydantic_core.to_jsonable_python({key: None})
        except ValueError as error:
            return f"has the key {key!r}: {error}. Use texts as keys."
        if text in seen:
            return f"has the keys {seen[text]!r} and {key!r}, which are the same in JSON. Use texts as keys."
        seen[text] = key
    return None


def _pointer(place: _Place | None) -> str:
    """Return the JSON pointer (RFC 6901) of a place."""
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append("/" + str(key).replace("~", "~0").replace("/", "~1"))
    return "".join(reversed(parts))
