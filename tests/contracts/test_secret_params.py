"""Which params are secret, and that nothing of a secret is left in the params that a job shows."""

import copy
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost_contracts.secret_params import MASK, MAX_POINTER, MAX_VISITS, SecretParams, join, place_of

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


def union(*names):
    return {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}


def recursive_union():
    names = [f"N{number}" for number in range(8)]
    nodes = {name: objects(a=union(*names), b=union(*names), items={"items": union(*names)}) for name in names}
    tree = {"secret": "hunter2"}
    for _ in range(90):
        tree = {"a": tree, "b": {"items": [{}] * 20}}
    last = {"N7": objects(a=union(*names), secret=SECRET)}
    return objects(root=union(*names)) | {"$defs": nodes | last}, {"root": tree}


def union_beside_members():
    names = [f"n{number}" for number in range(2000)]
    beside = objects(**{name: {} for name in names}, s=SECRET)
    return beside | {"anyOf": [objects(p={}) for _ in range(3000)]}, dict.fromkeys(names, 1) | {"s": "hunter2"}


def chain():
    names = [f"n{number}" for number in range(1000)]
    links = {f"a{number}": {"$ref": f"#/$defs/a{number + 1}"} for number in range(3000)}
    members = objects(**{name: {"$ref": "#/$defs/a0"} for name in names})
    return members | {"$defs": links | {"a3000": objects(s=SECRET)}}, {name: {"s": "hunter2"} for name in names}


def models():
    texts = {f"m{n}": {f"f{n}_{number}": TEXT for number in range(40)} for n in range(60)}
    definitions = {name: objects(**members, token=SECRET) for name, members in texts.items()}
    steps = [dict.fromkeys(members, "x") | {"token": "hunter2"} for members in texts.values()]
    return objects(steps={"items": union(*texts)}) | {"$defs": definitions}, {"steps": steps}


def many_for_others():
    names = [f"n{number}" for number in range(5000)]
    others = [objects(p={}) | {"additionalProperties": objects(s=SECRET)} for _ in range(1000)]
    return objects(**{name: {} for name in names}) | {"anyOf": others}, {
        name: {"s": "hunter2"} for name in names[:4000]
    }


def tuples():
    items = [{"prefixItems": [True] * 8000}, *({"items": objects(s=SECRET)} for _ in range(1000))]
    return objects(a={"anyOf": items}), {"a": [{"s": "hunter2"}] * 4000}


def deep_secrets():
    schema, value = SECRET, [f"hunter2-{number}" for number in range(4000)]
    for _ in range(90):
        schema, value = {"items": schema}, [value]
    return objects(a=schema), {"a": value[0]}


def secrets_under_a_long_name():
    return {"additionalProperties": {"items": SECRET}}, {"n" * 20_000: ["hunter2"] * 4000}


COSTLY = [
    recursive_union, union_beside_members, chain, models, many_for_others, tuples, deep_secrets,
    secrets_under_a_long_name,
]  # fmt: skip


@pytest.mark.parametrize("case", COSTLY)
def test_secrets_are_found_in_less_time_than_the_loop_may_be_held(case):
    """The first time, too, and however many subschemas describe a value: those that did not fit the limit took 36 s."""
    schema, params = case()
    seconds = []
    for _ in range(3):  # the quickest counts: a busy machine makes others longer
        found = SecretParams(copy.deepcopy(schema))
        started = time.thread_time()
        split, secrets = found.split(params)
        seconds.append(time.thread_time() - started)
        assert "hunter2" not in json.dumps(split)
        assert params == join(split, secrets)
    assert min(seconds) < 0.04


def test_a_union_of_many_models_is_within_the_limit():
    """Beside their tokens, everything is shown."""
    schema, params = models()
    assert [step | {"token": MASK} for step in params["steps"]] == shown(schema, params)["steps"]


def test_beyond_the_limit_of_visits_values_are_secret():
    """A schema can have more combinations of subschemas than there is time for. What was found before stays known."""
    schema, params = chain()
    schema["$defs"]["a3000"]["properties"]["t"] = TEXT
    params = {name: value | {"t": "x"} for name, value in params.items()}
    found = SecretParams(schema)
    split, secrets = found.split(params)
    assert {"s": MASK, "t": "x"} == split["n0"]
    assert MASK == split[f"n{MAX_VISITS // 3000}"] == split["n999"]
    assert (split, secrets) == found.split(params)


def test_in_a_place_with_a_long_pointer_the_whole_is_secret():
    """The pointers of many secrets would take more memory than the params."""
    name = "n" * MAX_POINTER
    schema = objects(**{name: objects(s=SECRET, t=TEXT), "short": objects(s=SECRET, t=TEXT)})
    params = {name: {"s": "hunter2", "t": "x"}, "short": {"s": "hunter2", "t": "x"}}
    assert {name: MASK, "short": {"s": MASK, "t": "x"}} == shown(schema, params)


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
