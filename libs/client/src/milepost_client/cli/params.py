"""Parsing of params, durations and times on the command line."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import typer

from milepost_client import Client, Refused
from milepost_client.cli.plain import read_json


def read_params(words: Sequence[str], type_name: str, client: Client) -> dict[str, Any]:
    """Parse `key=value` words into params.

    A value is text if the type's schema says so; otherwise it is parsed as JSON, and is text if it is not JSON.
    """
    if not words:
        return {}
    texts = text_fields(type_name, client)
    params: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{word!r} does not have the form key=value.", param_hint="params")
        if key in params:
            raise typer.BadParameter(f"{key} is given twice.", param_hint="params")
        params[key] = value if key in texts else json_or_text(value)
    return params


def read_length(text: str) -> timedelta:
    """Parse a duration: `90s`, `5m`, `2h`, `7d`, or a number of seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not found:
        raise typer.BadParameter(f"{text!r} is not a duration. Examples: 90s, 5m, 2h, 7d.")
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long.") from None


def read_moment(text: str) -> datetime:
    """Parse an ISO 8601 time with a time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time. Example: 2026-01-31T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone. Add Z for UTC.")
    return moment


_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def text_fields(type_name: str, client: Client) -> set[str]:
    """Return the params of a type whose schema says that they are text."""
    try:
        types = client.types()
    except Refused as error:
        if error.problem.status == HTTPStatus.FORBIDDEN:  # the key has the scope submit, but not read
            return set()
        raise
    for known in types:
        if known.type == type_name:
            fields = known.params_schema.get("properties", {})
            return {name for name, schema in fields.items() if schema.get("type") == "string"}
    return set()


def json_or_text(value: str) -> Any:
    """Parse a value as JSON; return the text itself if it is not JSON."""
    try:
        return read_json(value)
    except ValueError:
        return value
