"""What a terminal is shown, and what it reads as JSON, are strict: neither may do what somebody else's text says."""

import json
import math
import re
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and line break: the rest moves cursors, names windows, hides what stands there."""


def plain(text: str) -> str:
    """Spell the control characters of a text out."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def plain_json(value: Any) -> str:
    """Render indented JSON without control characters: `json` leaves those between DEL and U+009F as they are."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def read_json(text: str) -> Any:
    """Read JSON as a gateway does.

    Raises:
        ValueError: It is none: it has NaN or too large a number, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_texts(value: Any) -> None:
    """Raise `ValueError` for a JSON value with text that no gateway takes: with NUL, or half a surrogate pair."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it has half a surrogate pair") from None
    if re.search(r"(?<!\\)(\\\\)*\\u0000", text):
        raise ValueError("it has a NUL")


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is too large")
    return number
