"""Secret params at the gateway: it seals them, and no answer, message or record has them."""

import dataclasses
import json

import pytest
from gateway_fakes.params_validator import FakeParamsValidator
from problem_answers import problem

from milepost_contracts.http import webhooks
from milepost_contracts.messages.job_events import encode_event
from milepost_contracts.messages.worker_events import JobType
from milepost_contracts.secret_params import MASK, SecretParams
from milepost_contracts.status import history
from milepost_contracts.values import MAX_PARAMS
from milepost_gateway.core.job_types import KnownType
from milepost_gateway.errors import InvalidParams
from milepost_service.sealing import Sealer

CANARY = "hunter2-hunter2"
SECRET = {"type": "string", "writeOnly": True, "format": "password", "maxLength": 60_000}
SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "token": SECRET,
        "auth": {"anyOf": [{"$ref": "#/$defs/Auth"}, {"type": "null"}]},
        "many": {
            "type": "object",
            "propertyNames": {"writeOnly": True, "maxLength": 20},
            "additionalProperties": {"type": "integer"},
        },
    },
    "required": ["token"],
    "additionalProperties": False,
    "$defs": {
        "Auth": {
            "type": "object",
            "writeOnly": True,
            "properties": {"pin": {"type": "integer"}},
            "additionalProperties": False,
        }
    },
}
FETCH = JobType(type="fetch", queue="default", title="Fetch", params_schema=SCHEMA, result_schema={})
PARAMS = {"url": "https://example.com", "token": CANARY, "auth": {"pin": 987654}}
MASKED = {"url": "https://example.com", "token": MASK, "auth": MASK}
JOB = {"type": "fetch", "params": PARAMS}


@pytest.fixture(autouse=True)
def types(worker_store):
    worker_store.types.append(FETCH)


@pytest.fixture
def sealer(app):
    return app.state.dependencies.acceptance.sealer


@pytest.fixture
def without_keys(app):
    """A gateway without MILEPOST_SEAL_KEYS."""
    dependencies = app.state.dependencies
    acceptance = dataclasses.replace(dependencies.acceptance, sealer=Sealer())
    app.state.dependencies = dataclasses.replace(dependencies, acceptance=acceptance)


async def test_the_202_and_the_message_have_masks_and_the_sealed_secrets_open(http, broker, sealer):
    """The document is the same that a tracker renders from the message."""
    response = await http.post("/v1/jobs", json=JOB)
    (command,) = broker.submitted
    assert (202, MASKED) == (response.status_code, response.json()["params"])
    body = encode_event(command)
    assert MASKED == json.loads(body)["data"]["params"]
    for leaving in (response.content, body, history.write(command), webhooks.render(command)):
        assert CANARY.encode() not in leaving
        assert b"987654" not in leaving
    assert (PARAMS, {"/token": CANARY, "/auth": {"pin": 987654}}) == sealer.open(command.job)


async def test_clients_do_not_get_what_is_sealed(http, broker):
    """It is for processors: streams and webhooks leave it out, and the document has no place for it."""
    response = await http.post("/v1/jobs", json=JOB)
    (command,) = broker.submitted
    assert command.job.sealed is not None
    for leaving in (response.content, history.write(command), webhooks.render(command)):
        assert b"sealed" not in leaving


@pytest.mark.parametrize(
    "params, pointer",
    [
        ({"token": [CANARY]}, "/params/token"),
        ({"token": "x" * 60_001 + CANARY}, "/params/token"),
        ({"token": CANARY, "url": {"token": CANARY}}, "/params/url"),
        ({"token": CANARY, "auth": {CANARY: 1}}, "/params/auth"),
        ({"token": CANARY, "auth": {"pin": CANARY}}, "/params/auth"),
        ({"token": CANARY, "many": {CANARY: "x"}}, "/params/many"),
        ({"token": CANARY, "many": {CANARY * 2: 1}}, "/params/many"),
        ({"url": CANARY}, "/params"),
        ({"token": MASK, "url": CANARY}, "/params/token"),
    ],
    ids=lambda one: str(one)[:40],
)
async def test_no_refusal_has_a_secret(http, broker, params, pointer, capfd):
    """Neither its text nor its pointers; and the log does not have one either."""
    response = await http.post("/v1/jobs", json={"type": "fetch", "params": params})
    errors = problem(response, 422, "invalid-params")["errors"]
    assert {pointer} == {error["pointer"] for error in errors}
    assert CANARY not in response.text + "".join(capfd.readouterr())
    batch = await http.post("/v1/jobs:batch", json={"jobs": [{"type": "fetch", "params": params}]})
    assert CANARY not in batch.text
    assert [] == broker.submitted


async def test_the_jobs_of_a_batch_are_sealed_one_by_one(http, broker, sealer):
    """Each opens for itself."""
    await http.post("/v1/jobs:batch", json={"jobs": [JOB, {**JOB, "params": {"token": "other"}}]})
    assert [PARAMS, {"token": "other"}] == [sealer.open(command.job)[0] for command in broker.submitted]


async def test_a_gateway_without_keys_refuses_secrets_alone(http, broker, without_keys):
    """The answer names the setting; types without secrets are accepted."""
    body = problem(await http.post("/v1/jobs", json=JOB), 503, "not-accepted")
    assert "MILEPOST_SEAL_KEYS" in body["detail"]
    assert [] == broker.submitted
    assert 202 == (await http.post("/v1/jobs", json={"type": "count", "params": {"steps": 3}})).status_code


async def test_the_limit_of_the_params_counts_what_is_stored(http):
    """Sealed, they are a third longer."""
    largest = MAX_PARAMS * 3 // 4 - 100
    for size, status in ((largest, 202), (largest + 100, 413)):
        response = await http.post("/v1/jobs", json={"type": "fetch", "params": {"token": "x" * size}})
        assert status == response.status_code


async def test_a_repeat_is_recognised_by_its_secrets_too(http, broker):
    """The same request gets the same job, and another secret with the same key is another request."""
    headers = {"Idempotency-Key": '"once"'}
    first, second = [await http.post("/v1/jobs", json=JOB, headers=headers) for _ in range(2)]
    assert first.json()["id"] == second.json()["id"]
    assert 1 == len(broker.submitted)
    other = {**JOB, "params": {**PARAMS, "token": "other"}}
    problem(await http.post("/v1/jobs", json=other, headers=headers), 422, "key-reused")


async def test_the_record_of_a_key_is_no_plain_digest_of_secrets(http, idempotency_store, monkeypatch):
    """A secret of low entropy could be guessed from it. The record is a MAC, keyed by the id keys."""

    async def fingerprint(body):
        return "digest"

    monkeypatch.setattr("milepost_gateway.api.routes.jobs.fingerprint", fingerprint)
    for number, job in enumerate((JOB, {"type": "count"})):
        await http.post("/v1/jobs", json=job, headers={"Idempotency-Key": f'"{number}"'})
    with_secrets, without = [record.fingerprint for record in idempotency_store.records.values()]
    assert "digest" not in with_secrets
    assert "digest" == without, "gateways of earlier releases recognise a repeat"


async def test_a_repeat_is_recognised_after_its_type_has_got_a_secret(http, broker, worker_store):
    """The record was made before."""
    for schema in ({}, SCHEMA):
        worker_store.types = [FETCH.model_copy(update={"type": "changing", "params_schema": schema})]
        await http.get("/v1/job-types")
        job = {"type": "changing", "params": {"token": CANARY}}
        assert 202 == (await http.post("/v1/jobs", json=job, headers={"Idempotency-Key": '"k"'})).status_code
    assert 1 == len(broker.submitted)


async def test_the_schema_is_listed_as_it_was_announced(http):
    """Clients see which params are secret."""
    items = (await http.get("/v1/job-types")).json()["items"]
    assert SCHEMA in [one["params_schema"] for one in items]


async def test_errors_of_a_type_without_secrets_name_the_value():
    """That helps, and it is the client's own."""
    announced = FETCH.model_copy(update={"params_schema": {"properties": {"n": {"type": "integer"}}}})
    known = KnownType.of(announced, FakeParamsValidator(), SecretParams(announced.params_schema))
    with pytest.raises(InvalidParams) as raised:
        await known.check({"n": "three"}, b'{"n":"three"}', tenant="acme", until=0)
    assert '"three"' in raised.value.errors[0].detail
