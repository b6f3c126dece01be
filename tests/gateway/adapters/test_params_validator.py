"""`ProcessValidator`: validation in a process with limits. It passes what the fake passes, and ends what has no end."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from gateway_fakes.params_validator import FakeParamsValidator

from milepost_gateway.adapters.params_validator import ProcessValidator
from milepost_gateway.ports.params_validator import Verdict

COUNT = b'{"properties":{"steps":{"type":"integer"}}}'
EXPRESSION = json.dumps(
    {
        "$defs": {
            "add": {
                "properties": {
                    "op": {"const": "add"},
                    "left": {"$ref": "#/$defs/any"},
                    "right": {"$ref": "#/$defs/any"},
                },
                "required": ["op", "left", "right"],
            },
            "not": {
                "properties": {"op": {"const": "not"}, "left": {"$ref": "#/$defs/any"}},
                "required": ["op", "left"],
            },
            "lit": {"properties": {"op": {"const": "lit"}, "value": {"type": "number"}}, "required": ["op", "value"]},
            "any": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in ("add", "not", "lit")]},
        },
        "properties": {"expr": {"$ref": "#/$defs/any"}},
    }
).encode()
ENDLESS = json.dumps(
    {
        "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(60)} | {"a60": {}},
        "$ref": "#/$defs/a0",
    }
).encode()
"""2^60 steps for any params."""


def deep(levels):
    expression = {"value": "x"}
    for _ in range(levels):
        expression = {"left": expression}
    return json.dumps({"expr": expression}).encode()


@pytest.fixture
async def process():
    validator = ProcessValidator()
    yield validator
    await validator.close()


@pytest.fixture(params=["fake", "process"])
def validator(request, process):
    return FakeParamsValidator() if request.param == "fake" else process


async def validate(validator, schema, params, *, tenant="acme", within=30.0):
    return await validator.validate(schema, params, tenant=tenant, until=asyncio.get_running_loop().time() + within)


async def test_valid_params_are_valid(validator):
    """Again and again, by the same process."""
    assert [Verdict(valid=True)] * 3 == [await validate(validator, COUNT, b'{"steps":1}') for _ in range(3)]


async def test_the_validation_errors_say_where_and_why(validator):
    """As JSON pointers into the submission."""
    verdict = await validate(validator, COUNT, b'{"steps":"1"}')
    assert not verdict.valid
    assert [("/params/steps", '"1" is not of type "integer"')] == [(one.pointer, one.detail) for one in verdict.errors]


@pytest.mark.parametrize("schema", [b'{"type":"nonsense"}', b'{"$ref":"http://127.0.0.1/"}', b'{"pattern":"("}'])
async def test_a_fault_of_a_schema_is_found(validator, schema):
    """No schema is fetched from anywhere."""
    assert await validator.find_fault(schema)
    assert await validator.find_fault(COUNT) is None


async def test_errors_that_take_exponential_time_are_left_out(process):
    """A recursive union has 3^levels errors. That the params don't match is known all the same."""
    assert Verdict(valid=False) == await validate(process, EXPRESSION, deep(30))
    assert (await validate(process, COUNT, b"{}")).valid


async def test_a_validation_that_takes_too_long_is_ended(process):
    """By the kernel: no code of the library has to notice."""
    assert Verdict(valid=None) == await validate(process, ENDLESS, b"{}")
    assert (await validate(process, COUNT, b"{}")).valid


async def test_a_schema_that_takes_too_long_to_compile_is_a_fault(process):
    """Announced by whoever stole a processor's credentials."""
    patterns = {f"p{n}": {"pattern": rf"[^\W\d]{{{900 + n}}}x|\w{{700}}"} for n in range(3_000)}
    assert "time or memory" in await process.find_fault(json.dumps({"properties": patterns}).encode())


async def test_without_a_turn_in_time_nothing_is_known(process):
    """And the next one is answered: what was not waited for is not mistaken for its answer."""
    assert Verdict(valid=None, in_time=False) == await validate(process, ENDLESS, b"{}", within=0.05)
    assert not (await validate(process, COUNT, b'{"steps":"1"}')).valid


async def test_tenants_take_turns(process):
    """Whoever sends many costly validations waits for them; the others wait for one of them."""
    ended = []

    async def one(tenant, schema):
        await validate(process, schema, b"{}", tenant=tenant)
        ended.append(tenant)

    costly = [asyncio.create_task(one("rude", ENDLESS)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.gather(one("polite", COUNT), *costly)
    assert ["rude", "polite", "rude", "rude"] == ended


async def test_an_ended_process_is_replaced(process):
    """Whoever ended it: valid params are never refused for that."""
    await validate(process, COUNT, b"{}")
    process._process.kill()
    verdicts = [await validate(process, COUNT, b"{}") for _ in range(2)]
    assert verdicts[0] in (Verdict(valid=True), Verdict(valid=None, in_time=False))
    assert Verdict(valid=True) == verdicts[1]


async def test_the_process_has_limited_memory_and_no_secrets(process, monkeypatch):
    """It parses what strangers send."""
    monkeypatch.setenv("MILEPOST_ID_KEYS", "1:secret")
    await validate(process, COUNT, b"{}")
    found = Path(f"/proc/{process._process.pid}")
    assert b"MILEPOST_" not in (found / "environ").read_bytes()
    assert re.search(r"Max address space +536870912 +536870912 ", (found / "limits").read_text())
