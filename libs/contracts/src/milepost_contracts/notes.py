"""The notes at fields (`#:`), as descriptions in the documents that are generated from them: said once, read by all."""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from textwrap import dedent
from typing import Any

from pydantic import BaseModel

MARK = "#:"


def describe(schemas: dict[str, dict[str, Any]]) -> None:
    """Put the notes of each model's fields into its schema; what has a description keeps it."""
    kinds = {kind.__name__: kind for kind in _ours(BaseModel)}
    for name, schema in schemas.items():
        notes = field_notes(kinds[name]) if name in kinds else {}
        for field, told in schema.get("properties", {}).items():
            if field in notes and "$ref" not in told:  # what stands beside a reference is ignored by many readers
                told.setdefault("description", notes[field])


@cache
def field_notes(kind: type[BaseModel]) -> dict[str, str]:
    """Return what stands at each field of a model that has such a note; nothing where there is no source."""
    notes: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("milepost"):
            notes |= _notes_in(base)
    return notes


def _notes_in(kind: type) -> dict[str, str]:
    try:
        source = dedent(inspect.getsource(kind))
    except (OSError, TypeError):  # made while running, or there is no source here
        return {}
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - it is the source of a class
    return {
        node.target.id: note
        for node in definition.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if (note := _above(lines, node.lineno - 1))
    }


def _above(lines: list[str], at: int) -> str:
    """Return the note that ends just above a line."""
    first = at
    while first and lines[first - 1].strip().startswith(MARK):
        first -= 1
    return " ".join(line.strip().removeprefix(MARK).strip() for line in lines[first:at])


def _ours(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith("milepost"):
            yield subclass
        yield from _ours(subclass)
