"""`key=value` on the command line becomes the params of a job, by the schema of its type."""

import json
from collections.abc import Sequence
from typing import Any

import typer

from milepost_client.client import Client


def read_params(words: Sequence[str], type_name: str, client: Client) -> dict[str, Any]:
    """Return the params.

    A value is JSON where it reads as JSON, and text otherwise; where the type's schema asks for text, it is text.
    """
    if not words:
        return {}
    texts = _text_fields(type_name, client)
    params: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{word!r} is not key=value", param_hint="params")
        if key in params:
            raise typer.BadParameter(f"{key} is given twice", param_hint="params")
        params[key] = value if key in texts else _json_or_text(value)
    return params


def _text_fields(type_name: str, client: Client) -> set[str]:
    for known in client.types():
        if known.type == type_name:
            fields = known.params_schema.get("properties", {})
            return {name for name, schema in fields.items() if schema.get("type") == "string"}
    return set()


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
