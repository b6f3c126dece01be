"""Strict JSON (RFC 8259): refuses what Python's parser accepts beyond it."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from milepost_contracts.values import MAX_DEPTH, too_deep


class NotStrictJson(ValueError):  # noqa: N818 - named as the condition
    """The text is not JSON, or JSON that parsers read differently."""


class ItemTooLong(NotStrictJson):
    """An item of an array is too long."""


def loads(body: bytes) -> Any:
    """Parse a JSON text.

    Raises:
        NotStrictJson: With what is wrong: not UTF-8, not JSON, NaN or Infinity, a number beyond a double, the same key
            twice in an object, a NUL or half a surrogate pair in a string, or too many nested levels.
    """
    with _strict():
        text = body.decode()
        value = _DECODER.decode(text)
        _check(value, text)
        return value


def items(body: bytes, name: str, *, longest: int) -> Iterator[Any]:
    """Yield the items of an array that is the one member of an object, `{"name": […]}`; each is parsed when asked for.

    Raises:
        ItemTooLong: An item has more characters.
        NotStrictJson: As `loads`; or it is something else than such an object.
    """
    with _strict():
        text = body.decode()
        begin = re.compile(rf'{_WS}\{{{_WS}"{name}"{_WS}:{_WS}\[')
        at = _after(begin, text, 0, f'Expecting an object with the one member "{name}", an array')
        separator = None
        while separator != "]":
            at = _after(_SPACE, text, at, "")
            piece = text[at : at + longest]
            try:
                value, length = _DECODER.raw_decode(piece)
            except json.JSONDecodeError as error:
                if len(piece) == longest:
                    raise ItemTooLong(f"an item has more than {longest} characters") from error
                raise json.JSONDecodeError(error.msg, text, at + error.pos) from error
            _check(value, piece[:length])
            yield value
            at = _after(_SEPARATOR, text, at + length, "Expecting ',' or ']' delimiter")
            separator = text[at - 1]
        _after(_END, text, at, "Expecting '}' and the end")


@contextmanager
def _strict() -> Iterator[None]:
    """Raise `NotStrictJson` for what the parser raises."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise NotStrictJson("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise NotStrictJson("it is nested too deeply") from error
    except NotStrictJson:
        raise
    except ValueError as error:
        raise NotStrictJson(str(error)) from error


_WS = r"[ \t\n\r]*"
_SPACE = re.compile(_WS)
_SEPARATOR = re.compile(rf"{_WS}[,\]]")
_END = re.compile(rf"{_WS}\}}{_WS}\Z")


def _after(pattern: re.Pattern[str], text: str, at: int, message: str) -> int:
    """Return where the pattern ends that must come next."""
    found = pattern.match(text, at)
    if found is None:
        raise json.JSONDecodeError(message, text, at)
    return found.end()


def _check(value: Any, text: str) -> None:
    if too_deep(value):
        raise NotStrictJson(f"it is nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text:
        _check_strings(value)


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
