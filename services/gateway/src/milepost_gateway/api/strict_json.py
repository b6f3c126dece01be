"""Strict JSON (RFC 8259): refuses what Python's parser accepts beyond it."""

import json
from collections.abc import Sequence
from typing import Any

from milepost_contracts.values import MAX_DEPTH, too_deep


class NotStrictJson(ValueError):  # noqa: N818 - named as the condition
    """The text is not JSON, or JSON that parsers read differently."""


def loads(body: bytes) -> Any:
    """Parse a JSON text.

    Raises:
        NotStrictJson: With what is wrong: not UTF-8, not JSON, NaN or Infinity, a number beyond a double, the same key
            twice in an object, a NUL or half a surrogate pair in a string, or too many nested levels.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotStrictJson("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise NotStrictJson("it is nested too deeply") from error
    except ValueError as error:
        raise NotStrictJson(str(error)) from error
    if too_deep(value):
        raise NotStrictJson(f"it is nested deeper than {MAX_DEPTH} levels")
    if b"\\u" in body:
        _check_strings(value)
    return value


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise NotStrictJson("an object has the same key twice")
    return made


def _no_constant(name: str) -> Any:
    raise NotStrictJson(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise NotStrictJson("a number is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)


def _check_strings(value: Any) -> None:
    """Refuse strings with NUL or half a surrogate pair, which escapes can produce. Iterative: values may be deep."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if "\0" in one:
                raise NotStrictJson("a string has a NUL")
            try:
                one.encode()
            except UnicodeEncodeError as error:
                raise NotStrictJson("a string has half a surrogate pair") from error
        elif isinstance(one, list):
            pending.extend(one)
        elif isinstance(one, dict):
            pending.extend(one)
            pending.extend(one.values())
