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
MAX_VISITS = 30_000
"""How many subschemas are visited for all params of a type: a value that only further ones describe counts as secret.

Together they take 25 ms at most. A union of 60 models with 40 members each takes 5,000."""
MAX_POINTER = 200
"""Characters of a pointer below which no secrets are told apart: many secrets in a deep place would repeat it."""

_REFERENCES = ("$ref", "$dynamicRef")
#: Keywords that apply subschemas to the same value: to `not` belongs one schema, to `allOf` a list of them, …
_IN_PLACE = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas")
#: Keywords that apply subschemas to the members of an object or the items of an array.
_REST, _EVERY_ITEM = ("additionalProperties", "unevaluatedProperties"), ("contains", "unevaluatedItems")
_INSIDE = {*_REST, *_EVERY_ITEM, "properties", "patternProperties", "prefixItems", "items", "additionalItems"}
#: Keywords that apply subschemas to what can't be sealed apart: names, and JSON in a string. The whole is secret then.
_INSEPARABLE = ("propertyNames", "contentSchema")

Node = dict[str, Any]
_ANYTHING: Node = {}
#: What one schema describes inside of a value: some members or items by name or index, all others, and any.
_Described = tuple[Mapping[Any, "Node"], list["Node"], list["Node"]]
#: Secrets by their JSON pointers.
Secrets = dict[str, JsonValue]


@dataclass
class _Inside:
    """The subschemas of an object's members or of an array's items, at one place of the params."""

    #: Whether what no subschema describes is secret.
    is_strict: bool
    #: The subschemas of those that are described one by one, by name or index.
    named: dict[str | int | None, list[Node]] = field(default_factory=dict)
    #: The subschemas of all others, beside those that they are not for.
    others: list[tuple[Mapping[Any, Node], list[Node]]] = field(default_factory=list)
    #: The subschemas of any of them.
    always: list[Node] = field(default_factory=list)
    #: What was found with these, by name or index; `None` is that of all others.
    places: dict[str | int | None, "_Place | None"] = field(default_factory=dict)

    def add(self, described: _Described) -> int:
        """Add what one subschema describes; return how many subschemas these are."""
        named, others, always = described
        for name, one in named.items():
            self.named.setdefault(name, []).append(one)
        if others:
            self.others.append((named, others))
        self.always += always
        return len(named) + len(others) + len(always)

    def of(self, name: str | int | None) -> list[Node]:
        """Return the subschemas that may apply to one of them; `None` is one that is not described by name or index."""
        others = (one for named, inner in self.others if name not in named for one in inner)
        return [*self.named.get(name, ()), *others, *self.always]


@dataclass(frozen=True)
class _Place:
    """The values at one place of the params."""

    is_secret: bool = False
    members: _Inside = field(default_factory=lambda: _Inside(is_strict=True))
    items: _Inside = field(default_factory=lambda: _Inside(is_strict=False))


_SECRET = _Place(is_secret=True)


class SecretParams:
    """Finds the secret params of one job type.

    It errs on the side of secrecy. A subschema counts whether or not its alternative, condition or pattern applies. In
    an object that may hold a secret, the members that the schema does not describe are secret too: one may be a secret
    under an alias, or under a misspelled name.

    The time to build one grows with the schema. The first params that reach a place visit its subschemas, up to
    `MAX_VISITS` for all places. Else the time of `split` grows with the params alone, however recursive the schema is.
    """

    def __init__(self, schema: JsonSchema) -> None:
        self._schema = schema
        self._visits_left = MAX_VISITS
        self._places: dict[frozenset[int], _Place] = {}
        nodes = [one for one in _everything_in(schema) if isinstance(one, dict)]
        self._anchors = {
            f"#{node[key]}": node for node in nodes for key in ("$anchor", "$dynamicAnchor") if key in node
        }
        #: Whether a reference may be relative to a part of the schema that has an identity of its own.
        self._has_parts = any("$id" in node for node in nodes if node is not schema)
        #: The names of members that the schema gives away.
        self.names = frozenset(name for node in nodes for name in _properties(node))
        self._root: _Place | None = None
        if any(_is_mark(node) for node in nodes):
            #: The subschemas that apply to the same value as one, by its identity.
            self._in_place: dict[int, list[Node]] = {}
            #: What those describe in objects and in arrays that describe anything there, by their identity.
            self._described: dict[int, tuple[_Described, _Described]] = {}
            #: The subschemas whose values may be or hold secrets, by their identity.
            self._leading = self._find_leading()
            #: The subschemas whose values are secret, by their identity.
            self._secret = frozenset(
                id(node)
                for node in nodes
                if _is_mark(node)
                or not self._resolves(node)
                or any(id(one) in self._leading for one in _subschemas(node, _INSEPARABLE))
            )
            self._root = self._place([schema])

    @property
    def exist(self) -> bool:
        """Whether a job of this type may have a secret param."""
        return self._root is not None

    def split(self, params: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], Secrets]:
        """Return the params with masks, and the secrets. If the params as a whole are secret, none is shown."""
        secrets: Secrets = {}
        shown = self._shown(self._root, dict(params), "", secrets)
        return (shown if isinstance(shown, dict) else {}), secrets

    def _shown(self, place: _Place | None, value: Any, pointer: str, secrets: Secrets) -> Any:
        if place is None:
            return value
        if place.is_secret or len(pointer) > MAX_POINTER:
            secrets[pointer] = value
            return MASK
        if isinstance(value, dict):
            return {
                name: self._shown(inside, inner, f"{pointer}/{escaped(name)}", secrets)
                if (inside := self._inside(place.members, name)) is not None
                else inner
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [
                self._shown(inside, inner, f"{pointer}/{index}", secrets)
                if (inside := self._inside(place.items, index)) is not None
                else inner
                for index, inner in enumerate(value)
            ]
        return value

    def _inside(self, inside: _Inside, name: str | int) -> _Place | None:
        key = name if name in inside.named else None
        if key not in inside.places:
            inside.places[key] = self._find(inside, key)
        return inside.places[key]

    def _find(self, inside: _Inside, name: str | int | None) -> _Place | None:
        self._visits_left -= len(inside.others)
        if self._visits_left < 0:
            return _SECRET
        schemas = inside.of(name)
        self._visits_left -= len(schemas)
        is_described = name is not None or any(schemas)
        return self._place(schemas) if is_described or not inside.is_strict else _SECRET

    def _place(self, schemas: list[Node]) -> _Place | None:
        """Return the place of values to which these schemas may apply; `None` if none of them is or holds a secret."""
        if not any(id(one) in self._leading for one in schemas):
            return None
        nodes = self._closure(schemas)
        if self._visits_left < 0 or not self._secret.isdisjoint(nodes):
            return _SECRET
        key = frozenset(nodes & self._described.keys())
        if key not in self._places:
            place = self._places[key] = _Place()
            for one_id in key:
                in_object, in_array = self._described[one_id]
                self._visits_left -= place.members.add(in_object) + place.items.add(in_array)
        return self._places[key]

    def _closure(self, schemas: list[Node]) -> set[int]:
        """Return all subschemas that apply to the same value as these, by their identity."""
        found = set[int]()
        stack = list(schemas)
        while stack and self._visits_left >= 0:
            one = stack.pop()
            self._visits_left -= 1
            if id(one) not in found:
                found.add(id(one))
                stack += self._in_place.get(id(one), ())
        return found

    def _find_leading(self) -> frozenset[int]:
        users: dict[int, list[int]] = {}
        leading, stack = list[int](), [self._schema]
        while stack:
            node = stack.pop()
            if id(node) in self._in_place:
                continue
            self._in_place[id(node)] = _subschemas(node, _IN_PLACE) + self._targets(node)
            if not _INSIDE.isdisjoint(node):
                self._described[id(node)] = _in_object(node), _in_array(node)
            if _is_mark(node) or not self._resolves(node):
                leading.append(id(node))
            for one in self._in_place[id(node)] + _subschemas(node, (*_INSIDE, *_INSEPARABLE)):
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
    while pointer not in secrets:
        if not pointer:
            return None
        pointer = pointer.rpartition("/")[0]
    return pointer


def escaped(step: str | int) -> str:
    """Escape a step of a JSON pointer (RFC 6901)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _key(outer: Any, step: str) -> str | int:
    return int(step) if isinstance(outer, list) else step


def _is_mark(node: Node) -> bool:
    return node.get("writeOnly") is True or node.get("format") == "password"


def _in_object(node: Node) -> _Described:
    return _properties(node), _subschemas(node, _REST), _subschemas(node, ("patternProperties",))


def _in_array(node: Node) -> _Described:
    listed = node.get("prefixItems", node.get("items"))  # before 2020-12, `items` had the list
    named = {index: _object(one) for index, one in enumerate(listed)} if isinstance(listed, list) else {}
    return named, _subschemas(node, ("items", "additionalItems")), _subschemas(node, _EVERY_ITEM)


def _properties(node: Node) -> Mapping[Any, Node]:
    found = node.get("properties")
    return {name: _object(one) for name, one in found.items()} if isinstance(found, dict) else {}


def _object(schema: Any) -> Node:
    return schema if isinstance(schema, dict) else _ANYTHING


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
