"""Settings that are lists, separated by commas."""

from typing import Any


def split_words(value: Any) -> Any:
    """Return the words of a text that are separated by commas; another value as it is."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value
