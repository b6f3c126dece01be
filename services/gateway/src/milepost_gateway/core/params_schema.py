"""JSON Schemas of params: compiling them, validation errors, and which schemas are quick to validate against.

The process that validates params imports this too, so it imports nothing of the gateway.
"""

import json
from itertools import islice
from typing import Any, NoReturn

import jsonschema_rs

from milepost_contracts.secret_params import SecretParams, escaped

MAX_ERRORS = 20
MAX_DETAIL = 500
"""Maximum characters of a validation error's text."""
MAX_POINTER = 1_000
MAX_STEPS = 200_000
"""The most steps of a quick validation; one takes up to 60 ns."""
MAX_SCHEMA = 32 * 1024
MAX_SCHEMA_STEPS = 2_000
"""The largest schema, in bytes and in steps for one value, that is compiled by a gateway itself."""
PATTERN_STEPS = 40
"""Steps for each byte that a pattern is matched against."""
PATTERN_SIZE = 20_000
"""Bytes that a quick pattern may take when compiled. It needs no backtracking: lookaround and `\\1` do."""
_PLAIN = {
    "$comment", "$defs", "$schema", "additionalProperties", "allOf", "anyOf", "const", "default", "deprecated",
    "description", "discriminator", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format",
    "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties",
    "minimum", "oneOf", "pattern", "prefixItems", "properties", "readOnly", "$ref", "required", "title", "type",
    "writeOnly",
}  # fmt: skip
"""Keywords whose cost is known. `format` is no assertion in JSON Schema 2020-12."""


def compiled(schema: Any, **options: Any) -> Any:
    """Return the validator of a schema (JSON Schema 2020-12).

    Raises:
        ValueError: The schema can't be used.
    """
    return jsonschema_rs.Draft202012Validator(schema, retriever=_refuse, **options)


def explaining(schema: Any) -> Any:
    """Return the validator of a schema whose validation errors contain no value if some params are secret.

    Raises:
        ValueError: The schema can't be used.
    """
    return compiled(schema, mask="the value" if SecretParams(schema).exist else None)


def first_errors(validator: Any, params: Any) -> list[tuple[str, str]]:
    """Return the JSON pointers and texts of the first validation errors. This may take very long, and much memory."""
    errors = islice(validator.iter_errors(params), MAX_ERRORS)
    return [(_pointer(error.instance_path), error.message[:MAX_DETAIL]) for error in errors]


def quick_validator(schema: bytes) -> tuple[Any, int] | None:
    """Return a validator, and its steps at most for each byte of params; nothing if the schema may take long."""
    if len(schema) > MAX_SCHEMA:
        return None
    root = json.loads(schema)
    try:
        steps = _Steps(root).all()
        return compiled(root, pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_SIZE)), steps
    except (AttributeError, RecursionError, TypeError, ValueError):  # malformed ones, too
        return None


class _Steps:
    """Counts the steps of a validation for each value in the params, at most: one for each subschema and constant.

    Raises:
        ValueError: That is not known, or they are more than a quick validation takes.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        #: The steps of definitions; nothing while they are counted.
        self._of_refs: dict[str, int | None] = {}

    def all(self) -> int:
        return self._of(self._root)

    def _of(self, schema: Any) -> int:
        if isinstance(schema, bool):
            return 1
        if not isinstance(schema, dict) or not schema.keys() <= _PLAIN:
            raise ValueError("a keyword whose cost is not known")
        several = [schema.get("items", True), schema.get("additionalProperties", True)]
        for name in ("prefixItems", "allOf", "anyOf", "oneOf"):
            several += schema.get(name, ())
        several += schema.get("properties", {}).values()
        steps = 1 + len(schema.get("required", ())) + _size(schema.get("enum")) + _size(schema.get("const"))
        steps += PATTERN_STEPS * ("pattern" in schema) + sum(self._of(one) for one in several)
        if "$ref" in schema:
            steps += self._of_ref(schema["$ref"])
        if steps > MAX_SCHEMA_STEPS:
            raise ValueError("too many steps")
        return steps

    def _of_ref(self, ref: str) -> int:
        if ref not in self._of_refs:
            place, _, name = ref.rpartition("/")
            if place != "#/$defs" or name not in self._root.get("$defs", {}):
                raise ValueError("a reference to something else than a definition")
            self._of_refs[ref] = None
            self._of_refs[ref] = self._of(self._root["$defs"][name])
        steps = self._of_refs[ref]
        if steps is None:
            raise ValueError("a definition that refers to itself")
        return steps


def _size(value: Any) -> int:
    """Return the number of values in a JSON value."""
    if isinstance(value, dict):
        return 1 + sum(_size(one) for one in value.values())
    return 1 + sum(_size(one) for one in value) if isinstance(value, list) else 1


def _pointer(path: list[str | int]) -> str:
    """Return the JSON pointer of a place in the params (RFC 6901), or of what contains it if that is too long."""
    pointer = "/params"
    for step in path:
        longer = f"{pointer}/{escaped(step)}"
        if len(longer) > MAX_POINTER:
            break
        pointer = longer
    return pointer


def _refuse(uri: str) -> NoReturn:
    """Refuse references to other schemas: the gateway fetches no URL that a processor names."""
    raise ValueError(f"the schema refers to {uri}")
