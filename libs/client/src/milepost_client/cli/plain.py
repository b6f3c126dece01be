"""Terminal output without control characters, and strict JSON input."""

import json
import math
import re
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters except tab and newline: they could move the cursor, rename the window or hide text."""


def plain(text: str) -> str:
    """Escape the control characters of a text."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def plain_json(value: Any) -> str:
    """Return indented JSON without control characters: `json.dumps` does not escape DEL to U+009F."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def read_json(text: str) -> Any:
    """Parse JSON as strictly as the gateway.

    Raises:
        ValueError: The text is not JSON, has NaN or a number that is too large, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_texts(value: Any) -> None:
    """Raise `ValueError` for a JSON value whose text the gateway rejects: with NUL, or an unpaired surrogate."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it has an unpaired surrogate") from None
    if re.search(r"(?<!\\)(\\\\)*\\u0000", text):
        raise ValueError("it has a NUL")


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is too large")
    return number
