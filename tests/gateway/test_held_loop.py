"""No submission holds the event loop for long, whatever the schema, the params and the body: others are served."""

import asyncio
import gc
import json
import random
import time
from contextlib import asynccontextmanager

import pytest
from gateway_fakes.worker_store import TYPES

from milepost_gateway.adapters.params_validator import ProcessValidator
from milepost_service.garbage_collector import freeze_gc

JSON = {"Content-Type": "application/json"}
LONGEST = 0.05
"""Seconds of processor time in one iteration of the loop, so that a busy machine does not fail the test."""


class Holds:
    """The longest hold of the loop's thread, in processor time."""

    longest = 0.0

    def __init__(self, worker_store):
        self._worker_store = worker_store

    async def by(self, post, path, body, schema=None):
        """Send a request, and return its answer. A hold that a busy machine has made longer is measured again.

        If a schema is given, it is that of the type `hostile`. The gateway does not know the type yet: each time it has
        another name and another schema.
        """
        for number in range(3):
            content = body
            if schema is not None:
                name = f"hostile-{number}"
                self._worker_store.types = [*TYPES, announced(schema | {"$comment": name}, name)]
                content = body.replace('"hostile"', f'"{name}"')
            async with self._measured():
                response = await post(path, content=content, headers=JSON)
            if self.longest < LONGEST:
                break
        return response

    @asynccontextmanager
    async def _measured(self):
        self.longest = 0.0
        freeze_gc()  # as the gateway does: the objects of the tests are many
        beating = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            await asyncio.sleep(0)
            beating.cancel()
            gc.unfreeze()

    async def _beat(self):
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - begun)


@pytest.fixture
async def params_validator():
    validator = ProcessValidator()
    yield validator
    await validator.close()


@pytest.fixture
def holds(worker_store):
    return Holds(worker_store)


def announced(schema, name):
    return TYPES[0].model_copy(update={"type": name, "params_schema": json.loads(json.dumps(schema))})


def union(levels):
    """Return a recursive union without its discriminating field, nested so often."""
    value = {"value": "x"}
    for _ in range(levels):
        value = {"left": value}
    return {"expr": value}


UNION = {
    "$defs": {
        "a": {"properties": {"op": {"const": "a"}, "left": {"$ref": "#/$defs/any"}}, "required": ["op", "left"]},
        "b": {"properties": {"op": {"const": "b"}, "left": {"$ref": "#/$defs/any"}}, "required": ["op", "left"]},
        "c": {"properties": {"op": {"const": "c"}, "left": {"$ref": "#/$defs/any"}}, "required": ["op"]},
        "any": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in "abc"]},
    },
    "properties": {"expr": {"$ref": "#/$defs/any"}},
}
COLORS = {"properties": {"s": {"items": {"enum": ["red", "green", "blue", "black", "white", "grey"]}}}}
REFS = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(60)}
SECRET = {"type": "string", "writeOnly": True}
TOKEN = {"properties": {"token": SECRET}}
CHAIN = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(3000)} | {"a3000": TOKEN}
MODELS = {
    f"m{n}": {
        "type": "object",
        "properties": {f"f{n}_{m}": {"type": "string"} for m in range(40)} | TOKEN["properties"],
    }
    for n in range(60)
}
TEXTS = {f"t{n}": {"type": "string", "title": f"Text {n}", "default": ""} for n in range(1800)}
DEEP, DEEP_VALUE = {"items": SECRET}, ["s"] * 15_000
for _ in range(80):
    DEEP, DEEP_VALUE = {"items": DEEP}, [DEEP_VALUE]
HOSTILE = {
    "a recursive union, 12 levels": (UNION, union(12)),
    "a recursive union, 45 levels": (UNION, union(45)),
    "a list of literals": (COLORS, {"s": ["a"] * 16_000}),
    "references that multiply": ({"$defs": REFS | {"a60": {}}, "$ref": "#/$defs/a0"}, {}),
    "backtracking": ({"properties": {"s": {"items": {"pattern": r"^(?=a)(a+)+$|!"}}}}, {"s": ["a" * 3000 + "!"] * 20}),
    "backreferences": ({"properties": {"s": {"items": {"pattern": r"(.*)*\1x|!"}}}}, {"s": ["a" * 60 + "!"] * 900}),
    "patterns": ({"properties": {"s": {"pattern": r"(\w{50}){50}"}}}, {"s": "a" * 60_000}),
    "constants": (
        {"properties": {"s": {"items": {"anyOf": [{"const": n} for n in range(900)]}}}},
        {"s": [899] * 15_000},
    ),
    "objects in an enum": (
        {"properties": {"s": {"items": {"enum": [{"a": n} for n in range(9000)]}}}},
        {"s": [{"a": 8999}] * 5000},
    ),
    "contains": (
        {"properties": {"s": {"allOf": [{"contains": {"const": n}} for n in range(2000)]}}},
        {"s": list(range(8000))},
    ),
    "pattern properties": (
        {"patternProperties": {f"^p{n}": True for n in range(1000)}},
        {f"p{n}": 1 for n in range(5000)},
    ),
    "unique items": ({"properties": {"s": {"uniqueItems": True}}}, {"s": [[n] for n in range(9000)]}),
    "unevaluated properties": (
        {"allOf": [{"properties": {f"p{n}": True}} for n in range(2000)], "unevaluatedProperties": False},
        {f"q{n}": 1 for n in range(5000)},
    ),
    "a long chain of references": (
        {"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(6000)} | {"a6000": {}}, "$ref": "#/$defs/a0"},
        {},
    ),
    "many patterns": ({"properties": {f"p{n}": {"pattern": rf"\w{{{100 + n}}}"} for n in range(1500)}}, {"p1": "a"}),
    "many properties": ({"properties": {f"p{n}": {"properties": {"a": True}} for n in range(4000)}}, {"p1": 1}),
    "large numbers": ({"properties": {"s": {"items": {"multipleOf": 7}}}}, {"s": [7 * 10**4000] * 14}),
    "a wide union beside a secret": (
        {"anyOf": [{"properties": {"p": {}}}] * 3000, "properties": {f"n{n}": {} for n in range(2000)} | {"s": SECRET}},
        {f"n{n}": 1 for n in range(2000)},
    ),
    "chains of references to a secret": (
        {"$defs": CHAIN, "properties": {f"n{n}": {"$ref": "#/$defs/a0"} for n in range(1000)}},
        {f"n{n}": {} for n in range(1000)},
    ),
    "a union of models with secrets": (
        {"$defs": MODELS, "properties": {"s": {"items": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in MODELS]}}}},
        {"s": [{f"f{n}_{m}": "x" for m in range(40)} | {"token": "s"} for n in range(60)]},
    ),
    "a recursive union with secrets": (
        UNION | {"properties": {"expr": {"$ref": "#/$defs/any"}, "s": SECRET}},
        union(45),
    ),
    "secrets among all other members": (
        {
            "anyOf": [{"additionalProperties": TOKEN} for _ in range(1000)],
            "properties": {f"n{n}": {} for n in range(5000)},
        },
        {f"n{n}": {} for n in range(5000)},
    ),
    "a long tuple with secrets": (
        {"properties": {"s": {"anyOf": [{"prefixItems": [True] * 8000}, *({"items": TOKEN} for _ in range(1000))]}}},
        {"s": [{}] * 8000},
    ),
    "a schema of 100 KB with a secret": ({"properties": TEXTS | {"token": SECRET}}, dict.fromkeys(TEXTS, "x")),
    "many secrets": ({"properties": {"s": {"items": {"format": "password"}}}}, {"s": [1] * 32_000}),
    "many invalid secrets": ({"properties": {"s": {"items": SECRET}}}, {"s": [1] * 32_000}),
    "secrets in a deep place": ({"properties": {"s": DEEP}}, {"s": DEEP_VALUE}),
    "secrets under a long name": ({"additionalProperties": {"items": SECRET}}, {"n" * 30_000: ["s"] * 8000}),
    "many masks": ({"properties": {"s": {"items": SECRET}}}, {"s": ["**********"] * 4900}),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_schema_and_no_params_hold_the_loop(http, holds, name):
    """Those that did: for up to 13 s before params were checked in a process, and 36 s in the search for secrets."""
    schema, params = HOSTILE[name]
    body = json.dumps({"type": "hostile", "params": params}, separators=(",", ":"))
    response = await holds.by(http.post, "/v1/jobs", body, schema)
    assert response.status_code in {202, 413, 422, 503}
    assert holds.longest < LONGEST


@pytest.mark.parametrize("name", ["a recursive union, 12 levels", "a list of literals", "objects in an enum"])
async def test_a_batch_of_them_does_not_either(http, holds, name):
    """And is answered within some seconds: those that could not be checked in time get 503."""
    schema, params = HOSTILE[name]
    body = json.dumps({"jobs": [{"type": "hostile", "params": params}] * 40})
    response = await holds.by(http.post, "/v1/jobs:batch", body, schema)
    assert 207 == response.status_code
    assert {item["status"] for item in response.json()["items"]} <= {422, 503}
    assert holds.longest < LONGEST


NOTHING = {"type": "crunch"}
BODIES = {
    "empty arrays": [{"type": "crunch", "params": {"a": [[]] * 60_000}}],
    "numbers": [{"type": "crunch", "params": {"a": [1] * 32_000}}] * 120,
    "valid large params": [{"type": "crunch", "params": {"a": ["\u20ac" * 100] * 200}}] * 100,
    "objects": [{"type": "crunch", "params": {"a": [{"b": {}}] * 6_000}}] * 100,
    "escapes": [{"type": "crunch", "params": {"a": "\u20ac\ud83d\ude00" * 9_000}}] * 60,
    "1,000 unknown types": [{"type": f"unknown-{n}"} for n in range(1_000)],
    "1,000 invalid jobs": [{"type": "count", "params": {str(m): 1 for m in range(30)}}] * 1_000,
    "1,000 valid jobs": [NOTHING] * 1_000,
    "unknown fields": [{f"f{n}": 1 for n in range(2_000)}] * 100,
}


@pytest.mark.parametrize("name", BODIES)
async def test_no_batch_holds_the_loop(http, worker_store, holds, name):
    """It may be large: it is parsed, checked, submitted and answered job by job."""
    worker_store.types = [*TYPES, *(announced({}, f"unknowm-{n}") for n in range(300))]
    body = json.dumps({"jobs": BODIES[name]}, separators=(",", ":"))
    await http.get("/v1/job-types")
    response = await holds.by(http.post, "/v1/jobs:batch", body)
    assert response.status_code in {207, 413}
    assert holds.longest < LONGEST


def random_schema(chance, depth):
    """Return a schema with references to itself, to each other and to nothing."""
    schema = {}
    for _ in range(chance.randint(1, 3)):
        keyword = chance.choice(["properties", "items", "anyOf", "oneOf", "allOf", "$ref", "enum", "pattern", "not",
                                 "contains", "uniqueItems", "additionalProperties", "patternProperties", "if", "type",
                                 "unevaluatedItems", "propertyNames", "const", "prefixItems", "writeOnly",
                                 "format"])  # fmt: skip

        def inner():
            return random_schema(chance, depth - 1) if depth else {}

        if keyword in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            schema[keyword] = [inner() for _ in range(chance.randint(1, 5))]
        elif keyword in {"properties", "patternProperties"}:
            schema[keyword] = {name: inner() for name in "abc"}
        elif keyword == "$ref":
            schema[keyword] = f"#/$defs/{chance.randint(0, 5)}"
        elif keyword in {"enum", "const"}:
            schema["enum"] = [random_value(chance, 3) for _ in range(chance.choice([1, 10, 100]))]
        elif keyword == "pattern":
            schema[keyword] = chance.choice([r"^(a+)+$", r"(?=a)(a|a)*$", r"(a*)\1b", r"\w{1,90}", r"(a|b){30}x", "^a"])
        elif keyword == "type":
            schema[keyword] = chance.choice(["object", "array", "string", "integer", "number", "null"])
        elif keyword in {"uniqueItems", "writeOnly"}:
            schema[keyword] = True
        elif keyword == "format":
            schema[keyword] = "password"
        else:
            schema[keyword] = inner()
    return schema


def random_value(chance, depth):
    kind = chance.randint(0, 6) if depth else chance.randint(0, 3)
    if kind < 4:
        return chance.choice([1, 2.5, None, True, "a" * chance.choice([1, 30, 2_000]), "", -7, "b"])
    size = chance.choice([1, 2, 3, 20])
    if kind == 4:
        return [random_value(chance, depth - 1) for _ in range(size)]
    if kind == 5:
        return [random_value(chance, depth - 1)] * size
    return {name: random_value(chance, depth - 1) for name in "abcd"[: chance.randint(1, 4)]}


@pytest.mark.parametrize("seed", range(40))
async def test_no_combination_of_keywords_holds_the_loop(http, holds, seed):
    """Random schemas, with all that has a cost, and random params."""
    chance = random.Random(seed)
    schema = random_schema(chance, 3) | {"$defs": {str(n): random_schema(chance, 2) for n in range(6)}}
    params = {name: random_value(chance, 5) for name in "abc"}
    while len(json.dumps(params)) > 60_000:
        params.popitem()
    body = json.dumps({"type": "hostile", "params": params}, separators=(",", ":"))
    response = await holds.by(http.post, "/v1/jobs", body, schema)
    assert response.status_code in {202, 413, 422, 503}
    assert holds.longest < LONGEST
