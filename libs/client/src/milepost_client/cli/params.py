"""`key=value` on the command line becomes the params of a job, by the schema of its type."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import typer

from milepost_client import Client, Refused
from milepost_client.cli.plain import read_json


def read_params(words: Sequence[str], type_name: str, client: Client) -> dict[str, Any]:
    """Return the params.

    A value is JSON where it reads as JSON, and text otherwise; where the type's schema asks for text, it is text.
    """
    if not words:
        return {}
    texts = text_fields(type_name, client)
    params: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{word!r} is not key=value", param_hint="params")
        if key in params:
            raise typer.BadParameter(f"{key} is given twice", param_hint="params")
        params[key] = value if key in texts else json_or_text(value)
    return params


def read_length(text: str) -> timedelta:
    """Read `90s`, `5m`, `2h`, `7d`, or a bare number of seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not found:
        raise typer.BadParameter(f"{text!r} is no length of time, such as 90s, 5m, 2h or 7d")
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is longer than can be counted") from None


def read_moment(text: str) -> datetime:
    """Read an RFC 3339 time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time, such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: add Z for UTC")
    return moment


_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def text_fields(type_name: str, client: Client) -> set[str]:
    """Return the params of a type that are text, whatever they look like."""
    try:
        types = client.types()
    except Refused as error:
        if error.problem.status == HTTPStatus.FORBIDDEN:  # a key that may submit may not be one that may read
            return set()
        raise
    for known in types:
        if known.type == type_name:
            fields = known.params_schema.get("properties", {})
            return {name for name, schema in fields.items() if schema.get("type") == "string"}
    return set()


def json_or_text(value: str) -> Any:
    """Return what a word stands for where no schema says what it is."""
    try:
        return read_json(value)
    except ValueError:
        return value
