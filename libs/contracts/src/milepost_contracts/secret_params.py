"""The secret params of a job: which ones a type's schema marks, and how a mask takes their places.

A schema marks a secret with `writeOnly: true` or `format: password`, as pydantic does for `SecretStr`. The params that
a job shows have `MASK` in place of each secret; the secrets travel apart, sealed, by their JSON pointers (RFC 6901).
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from pydantic import JsonValue

from milepost_contracts.values import JsonSchema

MASK = "**********"
"""What is shown in place of a secret; pydantic shows the same."""
MAX_PLACES = 1_000
"""How many combinations of subschemas are told apart: a value that only a further one describes counts as secret."""

_REFERENCES = ("$ref", "$dynamicRef")
#: Keywords that apply subschemas to the same value: to `not` belongs one schema, to `allOf` a list of them, …
_IN_PLACE = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas")
#: Keywords that apply subschemas to the members of an object or the items of an array.
_REST, _EVERY_ITEM = ("additionalProperties", "unevaluatedProperties"), ("contains", "unevaluatedItems")
_INSIDE = (*_REST, *_EVERY_ITEM, "properties", "patternProperties", "prefixItems", "items", "additionalItems")
#: Keywords that apply subschemas to what can't be sealed apart: names, and JSON in a string. The whole is secret then.
_INSEPARABLE = ("propertyNames", "contentSchema")

Node = dict[str, Any]
#: The steps to a value, the last one first; a pointer is made only of those that lead to secrets.
_Path = tuple["_Path | None", str | int]
_ANYTHING: Node = {}
#: Secrets by their JSON pointers.
Secrets = dict[str, JsonValue]


@dataclass
class _Place:
    """The values at one place of the params, by the subschemas that may apply to them."""

    nodes: tuple[Node, ...]
    is_secret: bool = False
    #: The names of members that are described one by one.
    names: frozenset[str] = frozenset()
    #: How many items are described one by one.
    listed: int = 0
    #: The places of the members by their names; `None` is the name of all others.
    members: dict[str | None, "_Place | None"] = field(default_factory=dict)
    #: The places of the items; the last is that of all others.
    items: dict[int, "_Place | None"] = field(default_factory=dict)


_SECRET = _Place((), is_secret=True)


class SecretParams:
    """Finds the secret params of one job type.

    It errs on the side of secrecy. A subschema counts whether or not its alternative, condition or pattern applies. In
    an object that may hold a secret, the members that the schema does not describe are secret too: one may be a secret
    under an alias, or under a misspelled name. The time grows with the params alone, however recursive the schema is.
    """

    def __init__(self, schema: JsonSchema) -> None:
        self._schema = schema
        self._places: dict[frozenset[int], _Place] = {}
        nodes = [one for one in _everything_in(schema) if isinstance(one, dict)]
        self._anchors = {
            f"#{node[key]}": node for node in nodes for key in ("$anchor", "$dynamicAnchor") if key in node
        }
        #: Whether a reference may be relative to a part of the schema that has an identity of its own.
        self._has_parts = any("$id" in node for node in nodes if node is not schema)
        #: The names of members that the schema gives away.
        self.names = frozenset(name for node in nodes for name in _children(node, "properties"))
        self._root: _Place | None = None
        if any(_is_mark(node) for node in nodes):
            self._leading = self._find_leading()
            self._root = self._place([schema])

    @property
    def exist(self) -> bool:
        """Whether a job of this type may have a secret param."""
        return self._root is not None

    def split(self, params: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], Secrets]:
        """Return the params with masks, and the secrets. If the params as a whole are secret, none is shown."""
        secrets: Secrets = {}
        shown = self._shown(self._root, dict(params), None, secrets)
        return (shown if isinstance(shown, dict) else {}), secrets

    def _shown(self, place: _Place | None, value: Any, path: _Path | None, secrets: Secrets) -> Any:
        if place is None:
            return value
        if place.is_secret:
            secrets[_pointer(path)] = value
            return MASK
        if isinstance(value, dict):
            return {
                name: self._shown(inside, inner, (path, name), secrets)
                if (inside := self._member(place, name)) is not None
                else inner
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [
                self._shown(inside, inner, (path, index), secrets)
                if (inside := self._item(place, index)) is not None
                else inner
                for index, inner in enumerate(value)
            ]
        return value

    def _member(self, place: _Place, name: str) -> _Place | None:
        key = name if name in place.names else None
        if key not in place.members:
            place.members[key] = self._find_member(place, key)
        return place.members[key]

    def _find_member(self, place: _Place, name: str | None) -> _Place | None:
        inner: list[Node] = []
        for node in place.nodes:
            named = _children(node, "properties")
            inner += [named[name]] if name in named else _subschemas(node, _REST)
            inner += _subschemas(node, ("patternProperties",))
        is_described = name is not None or any(inner)
        return self._place(inner) if is_described else _SECRET

    def _item(self, place: _Place, index: int) -> _Place | None:
        key = min(index, place.listed)
        if key not in place.items:
            inner: list[Node] = []
            for node in place.nodes:
                listed = _listed(node)
                inner += listed[key : key + 1] or _subschemas(node, ("items", "additionalItems"))
                inner += _subschemas(node, _EVERY_ITEM)
            place.items[key] = self._place(inner)
        return place.items[key]

    def _place(self, schemas: Iterable[Node]) -> _Place | None:
        """Return the place of values to which these schemas may apply; `None` if none of them is or holds a secret."""
        nodes = self._closure(schemas)
        key = frozenset(nodes)
        if not key & self._leading:
            return None
        if key not in self._places:
            if len(self._places) >= MAX_PLACES or any(self._is_secret(node) for node in nodes.values()):
                return _SECRET
            names = frozenset(name for node in nodes.values() for name in _children(node, "properties"))
            listed = max(len(_listed(node)) for node in nodes.values())
            self._places[key] = _Place(tuple(nodes.values()), names=names, listed=listed)
        return self._places[key]

    def _closure(self, schemas: Iterable[Node]) -> dict[int, Node]:
        """Return all subschemas that apply to the same value as these, by their identity."""
        found: dict[int, Node] = {}
        stack = list(schemas)
        while stack:
            one = stack.pop()
            if id(one) not in found:
                found[id(one)] = one
                stack += _subschemas(one, _IN_PLACE) + self._targets(one)
        return found

    def _is_secret(self, node: Node) -> bool:
        is_inseparable = any(id(one) in self._leading for one in _subschemas(node, _INSEPARABLE))
        return is_inseparable or _is_mark(node) or not self._resolves(node)

    def _find_leading(self) -> frozenset[int]:
        """Return the subschemas whose values may be or hold secrets, by their identity."""
        users: dict[int, list[int]] = {}
        seen, leading, stack = set[int](), list[int](), [self._schema]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if _is_mark(node) or not self._resolves(node):
                leading.append(id(node))
            for one in _subschemas(node, (*_IN_PLACE, *_INSIDE, *_INSEPARABLE)) + self._targets(node):
                users.setdefault(id(one), []).append(id(node))
                stack.append(one)
        found = set[int]()
        while leading:
            one_id = leading.pop()
            if one_id not in found:
                found.add(one_id)
                leading += users.get(one_id, ())
        return frozenset(found)

    def _resolves(self, node: Node) -> bool:
        """Whether it is known to what the references of a schema lead."""
        return all(self._target(node[key]) is not None for key in _REFERENCES if key in node)

    def _targets(self, node: Node) -> list[Node]:
        found = (self._target(node[key]) for key in _REFERENCES if key in node)
        return [one for one in found if one is not None]

    def _target(self, reference: Any) -> Node | None:
        """Return the schema to which a reference leads; `None` if that is not known here."""
        if self._has_parts or not isinstance(reference, str):
            return None
        if reference in self._anchors:
            return self._anchors[reference]
        if reference != "#" and not reference.startswith("#/"):
            return None
        found: Any = self._schema
        for step in _steps(unquote(reference[1:])):
            try:
                found = found[_key(found, step)]
            except (LookupError, TypeError, ValueError):
                return None
        return found if isinstance(found, dict) else _ANYTHING if isinstance(found, bool) else None


def join(shown: Mapping[str, JsonValue], secrets: Secrets) -> dict[str, JsonValue]:
    """Return the params from which `split` made these.

    Raises:
        LookupError, TypeError, ValueError: The secrets are not of these params.
    """
    joined: Any = {"": copy.deepcopy(dict(shown)) if "" not in secrets else MASK}
    for pointer, value in secrets.items():
        inner, step = joined, ""
        for following in _steps(pointer):
            inner, step = inner[_key(inner, step)], following
        key = _key(inner, step)
        if inner[key] != MASK:
            raise ValueError(f"there is no mask at {pointer}")
        inner[key] = value
    return dict(joined[""])


def place_of(pointer: str, secrets: Secrets) -> str | None:
    """Return the pointer of the secret that a pointer leads to or into; `None` if it leads to none."""
    return next((one for one in secrets if f"{pointer}/".startswith(f"{one}/")), None)


def escaped(step: str | int) -> str:
    """Escape a step of a JSON pointer (RFC 6901)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def _pointer(path: _Path | None) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"/{escaped(step)}")
    return "".join(reversed(steps))


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _key(outer: Any, step: str) -> str | int:
    return int(step) if isinstance(outer, list) else step


def _is_mark(node: Node) -> bool:
    return node.get("writeOnly") is True or node.get("format") == "password"


def _children(node: Node, keyword: str) -> Node:
    found = node.get(keyword)
    if not isinstance(found, dict):
        return {}
    return {name: one if isinstance(one, dict) else _ANYTHING for name, one in found.items()}


def _listed(node: Node) -> list[Node]:
    """Return the schemas of the first items of an array; before 2020-12, they were in `items`."""
    found = node.get("prefixItems", node.get("items"))
    return [one if isinstance(one, dict) else _ANYTHING for one in found] if isinstance(found, list) else []


def _subschemas(node: Node, keywords: Iterable[str]) -> list[Node]:
    """Return the subschemas of these keywords, whether one holds a schema, a list or an object of them."""
    found: list[Any] = []
    for keyword in keywords:
        held = node.get(keyword)
        if isinstance(held, dict) and keyword in {"properties", "patternProperties", "dependentSchemas"}:
            found += held.values()
        else:
            found += held if isinstance(held, list) else [held]
    return [one for one in found if isinstance(one, dict)]


def _everything_in(value: Any) -> Iterator[Any]:
    stack = [value]
    while stack:
        one = stack.pop()
        yield one
        if isinstance(one, dict | list):
            stack += one.values() if isinstance(one, dict) else one
