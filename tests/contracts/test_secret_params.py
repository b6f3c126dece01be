"""Which params are secret, and that nothing of a secret is left in the params that a job shows."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost_contracts.secret_params import MASK, MAX_PLACES, SecretParams, join, place_of

SECRET = {"type": "string", "writeOnly": True}
TEXT = {"type": "string"}


def objects(**properties):
    return {"type": "object", "properties": properties}


def shown(schema, params):
    """Return the params that are shown; the secrets and these make the submitted ones again."""
    found, secrets = SecretParams(schema).split(params)
    assert params == join(found, secrets)
    return found


@pytest.mark.parametrize(
    "schema",
    [
        SECRET,
        {"type": "string", "format": "password"},
        {"$ref": "#/$defs/Secret"},
        {"$ref": "#marked"},
        {"$dynamicRef": "#marked"},
        {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Secret"}]},
        {"oneOf": [TEXT, SECRET]},
        {"allOf": [TEXT, {"writeOnly": True}]},
        {"if": TEXT, "then": SECRET},
        {"if": TEXT, "else": SECRET},
        {"not": SECRET},
        {"dependentSchemas": {"other": SECRET}},
        {"type": "string", "contentMediaType": "application/json", "contentSchema": objects(token=SECRET)},
        {"type": "object", "propertyNames": SECRET},
        {"type": "object", "writeOnly": True},
        {"$ref": "https://example.com/elsewhere.json"},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#/$defs/Is~1escaped%20too"},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("value", ["hunter2", None, 5, {"hunter2": "hunter2"}, ["hunter2"]], ids=json.dumps)
def test_a_value_that_any_subschema_marks_is_masked(schema, value):
    """Whichever keyword leads to the mark, whether its alternative applies or not, and whatever the value is."""
    definitions = {"Secret": SECRET | {"$anchor": "marked"}, "Is/escaped too": SECRET}
    assert {"p": MASK, "q": "x"} == shown(objects(p=schema, q=TEXT) | {"$defs": definitions}, {"p": value, "q": "x"})


@pytest.mark.parametrize(
    "schema, value, expected",
    [
        (objects(a=objects(b=SECRET, c=TEXT)), {"a": {"b": "s", "c": "x"}}, {"a": {"b": MASK, "c": "x"}}),
        (objects(**{"a/b~c": SECRET}), {"a/b~c": "s"}, {"a/b~c": MASK}),
        (objects(**{"": SECRET, "b": TEXT}), {"": "s", "b": "x"}, {"": MASK, "b": "x"}),
        (objects(a={"items": SECRET}), {"a": ["s", "t"]}, {"a": [MASK, MASK]}),
        (objects(a={"contains": SECRET}), {"a": ["s"]}, {"a": [MASK]}),
        (objects(a={"unevaluatedItems": SECRET}), {"a": ["s"]}, {"a": [MASK]}),
        (objects(a={"prefixItems": [TEXT, SECRET]}), {"a": ["x", "s", "y"]}, {"a": ["x", MASK, "y"]}),
        (objects(a={"prefixItems": [TEXT], "items": SECRET}), {"a": ["x", "s"]}, {"a": ["x", MASK]}),
        (objects(a={"items": [TEXT, SECRET]}), {"a": ["x", "s"]}, {"a": ["x", MASK]}),
        (objects(a={"additionalProperties": SECRET}), {"a": {"k": "s"}}, {"a": {"k": MASK}}),
        (objects(a={"unevaluatedProperties": SECRET}), {"a": {"k": "s"}}, {"a": {"k": MASK}}),
        (objects(a={"patternProperties": {"^x-": SECRET}}), {"a": {"x-k": "s"}}, {"a": {"x-k": MASK}}),
        (objects(a=objects(t=SECRET, n=True)), {"a": {"t": "s", "n": 1}}, {"a": {"t": MASK, "n": 1}}),
        (objects(a=TEXT) | {"writeOnly": True}, {"a": "s", "b": 1}, {}),
        (objects(a={"$ref": "b.json"}) | {"$defs": {"b": {"$id": "b.json", **SECRET}}}, {"a": "s"}, {"a": MASK}),
    ],
    ids=lambda one: json.dumps(one)[:60],
)
def test_secrets_are_found_wherever_they_are(schema, value, expected):
    """What is beside them is shown."""
    assert expected == shown(schema, value)


def test_a_type_without_a_mark_has_no_secrets():
    """Its params are shown as they are, members that its schema does not name too."""
    schema = objects(a=TEXT, writeOnly={"type": "boolean"}, b={"writeOnly": False, "$ref": "https://example.com/x"})
    assert not SecretParams(schema).exist
    assert {"a": "x", "other": [1]} == shown(schema, {"a": "x", "other": [1]})


def test_members_that_the_schema_does_not_name_are_secret_beside_a_secret():
    """An alias of pydantic is not in the schema, and a name may be misspelled. Elsewhere they are shown."""
    schema = objects(token=SECRET, more={"type": "object"}, auth=objects(key=SECRET)) | {"additionalProperties": True}
    params = {"tokn": "s", "credentials": {"key": "s"}, "more": {"any": 1}}
    assert {"tokn": MASK, "credentials": MASK, "more": {"any": 1}} == shown(schema, params)


def test_a_recursive_union_takes_no_longer_than_its_params():
    """A value may be described in more ways than can be tried one by one."""
    names = [f"N{number}" for number in range(8)]
    union = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    nodes = {name: objects(a=union, b=union, items={"items": union}) for name in names}
    schema = objects(root=union) | {"$defs": nodes | {"N7": objects(a=union, secret=SECRET)}}
    tree = {"secret": "hunter2"}
    for _ in range(90):
        tree = {"a": tree, "b": {"items": [{}] * 20}}
    started = time.process_time()
    assert "hunter2" not in json.dumps(shown(schema, {"root": tree}))
    assert time.process_time() - started < 1


def test_beyond_the_limit_of_places_values_are_secret():
    """A schema can have more combinations of subschemas than fit into memory."""
    count = 12
    states = {
        f"s{n}": objects(**{str(i): {"$ref": f"#/$defs/s{(n * 7 + i * i + 1) % 40}"} for i in range(4)})
        for n in range(40)
    }
    states["s39"]["properties"]["x"] = SECRET
    root = {"anyOf": [{"$ref": f"#/$defs/s{n}"} for n in range(count)]}
    found = SecretParams(objects(root=root) | {"$defs": states})
    for number in range(4 * MAX_PLACES):
        steps = [str(number // 4**digit % 4) for digit in range(8)]
        value = "deep"
        for step in steps:
            value = {step: value}
        found.split({"root": value})
    assert len(found._places) <= MAX_PLACES


@st.composite
def types(draw, depth=3):  # noqa: PLR0911 - one kind a line
    """Return a schema, and a strategy for its values, in which every secret is a text with `hunter2` in it."""
    secret = st.text(max_size=5).map(lambda text: f"hunter2{text}")
    kinds = ["text", "secret", "number", "whole"] + (
        ["object", "array", "tuple", "map", "union", "optional"] if depth else []
    )
    kind = draw(st.sampled_from(kinds))
    if kind in ("text", "number"):
        values = st.text(max_size=5) if kind == "text" else st.floats(allow_nan=False, allow_infinity=False)
        return {"type": "string" if kind == "text" else "number"}, values
    if kind == "secret":
        return draw(st.sampled_from([SECRET, {"format": "password"}, {"$ref": "#/$defs/S"}])), secret
    if kind == "whole":
        return {"type": "object", "writeOnly": True}, st.dictionaries(secret, secret, max_size=2)
    inner = draw(st.lists(types(depth=depth - 1), min_size=1, max_size=3))
    schemas, values = zip(*inner, strict=True)
    if kind == "object":
        names = draw(st.lists(st.text(max_size=4), min_size=len(inner), max_size=len(inner), unique=True))
        return objects(**dict(zip(names, schemas, strict=True))), st.fixed_dictionaries(
            {}, optional=dict(zip(names, values, strict=True))
        )
    if kind == "array":
        return {"type": "array", "items": schemas[0]}, st.lists(values[0], max_size=3)
    if kind == "tuple":
        return {"type": "array", "prefixItems": list(schemas)}, st.tuples(*values).map(list)
    if kind == "map":
        keyword = draw(st.sampled_from(["additionalProperties", "unevaluatedProperties"]))
        return {"type": "object", keyword: schemas[0]}, st.dictionaries(st.text(max_size=3), values[0], max_size=3)
    keyword = draw(st.sampled_from(["anyOf", "oneOf"]))
    others = [{"type": "null"}] if kind == "optional" else []
    return {keyword: [*schemas, *others]}, st.one_of(*values, *([st.none()] if others else []))


@given(st.data())
def test_no_secret_is_left_in_what_is_shown_whatever_the_schema(data):
    """And with the secrets, the params are complete again."""
    names = data.draw(st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True))
    schema, values = {}, {}
    for name in names:
        schema[name], values[name] = data.draw(types())
    params = data.draw(st.fixed_dictionaries({}, optional=values))
    assert "hunter2" not in json.dumps(shown(objects(**schema) | {"$defs": {"S": SECRET}}, params))


def test_a_pointer_into_a_secret_leads_to_its_place():
    """So that an error can name the secret, but nothing in it."""
    secrets = {"/a": {"b": 1}, "/ab": "x"}
    assert ["/a", "/a", "/ab", None] == [place_of(one, secrets) for one in ("/a", "/a/b", "/ab", "/b")]


@pytest.mark.parametrize("secrets", [{"/b": 1}, {"/a": 1}, {"/l/x": 1}, {"/l/5": 1}, {"/a/b": 1}])
def test_secrets_of_other_params_are_refused(secrets):
    """They belong where their masks are."""
    with pytest.raises((LookupError, TypeError, ValueError)):
        join({"a": "x", "l": [MASK]}, secrets)
