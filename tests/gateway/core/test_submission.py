"""`POST /v1/jobs`: which response each request gets."""

import asyncio
import json
from datetime import timedelta
from hashlib import sha256

import pytest
from problem_answers import problem
from samples import HEARTBEAT

from milepost_contracts.clock import now
from milepost_contracts.grants import is_granted
from milepost_contracts.messages.job_events import JobSucceeded
from milepost_gateway.errors import NotAccepted, OutcomeUnknown
from milepost_gateway.ports.params_validator import Verdict

JOB = {"type": "count", "params": {"steps": 3}}


@pytest.fixture
def types(view, worker_store):
    return list(worker_store.types)


async def test_a_202_has_location_retry_after_and_the_document(http, broker):
    """Location and Operation-Location are the URL of the job."""
    response = await http.post("/v1/jobs", json={**JOB, "tags": ["nightly"]})
    document = response.json()
    assert 202 == response.status_code
    location = f"http://gateway.test/v1/jobs/{document['id']}"
    assert [location, location] == [response.headers["location"], response.headers["operation-location"]]
    assert "1" == response.headers["retry-after"]
    assert (
        "queued",
        0,
        "count",
        "default",
        {"steps": 3},
        ["nightly"],
    ) == tuple(document[name] for name in ("status", "version", "type", "queue", "params", "tags"))
    (command,) = broker.submitted
    assert document["id"] == command.job.id


async def test_the_traceparent_is_passed_on_to_the_job(http, broker):
    """One trace from the POST to the last event; an invalid header is ignored."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await http.post("/v1/jobs", json=JOB, headers={"traceparent": trace})
    await http.post("/v1/jobs", json=JOB, headers={"traceparent": "00-zz"})
    assert [trace, None] == [command.traceparent for command in broker.submitted]


@pytest.mark.parametrize("name, similar", [("cout", "count"), ("crunchy", "crunch"), ("zzz", "count")])
async def test_an_unknown_type_is_refused_with_a_similar_known_one(http, broker, name, similar):
    """So that a typo is easy to correct."""
    body = problem(await http.post("/v1/jobs", json={"type": name}), 422, "unknown-job-type")
    assert similar in body["detail"]
    assert name not in body["detail"].replace(similar, "")
    assert [] == broker.submitted


async def test_without_announced_types_the_error_says_to_start_a_processor(http, worker_store):
    """A new user's first mistake is to start no processor."""
    worker_store.types = worker_store.heartbeats = []
    assert "Start one" in problem(await http.post("/v1/jobs", json=JOB), 422, "unknown-job-type")["detail"]


@pytest.mark.parametrize(
    "params, pointers",
    [
        ({"steps": "three"}, ["/params/steps"]),
        ({"steps": -1}, ["/params/steps"]),
        ({"stepz": 1}, ["/params"]),
        ({"a/b": 1, "steps": 1.5}, ["/params/a~1b", "/params/steps"]),
        ({"steps": True}, ["/params/steps"]),
    ],
)
async def test_params_are_validated_against_the_announced_schema(http, broker, params, pointers):
    """Each error has a JSON pointer, and no job is submitted."""
    body = problem(await http.post("/v1/jobs", json={"type": "count", "params": params}), 422, "invalid-params")
    assert pointers == sorted(error["pointer"] for error in body["errors"])
    assert [] == broker.submitted


@pytest.mark.parametrize(
    "submission, pointer",
    [
        ([], ""),
        ("text", ""),
        ({}, "/type"),
        ({"type": 5}, "/type"),
        ({"type": "count", "params": []}, "/params"),
        ({"type": "count", "parms": {}}, "/parms"),
        ({"type": "count", "options": {"max_retries": 9}}, "/options"),
        ({"type": "count", "queue_name": "x"}, "/queue_name"),
        ({"type": "count", "queue": "cpu"}, "/queue"),
        ({"type": "count", "tags": "one"}, "/tags"),
        ({"type": "count", "tags": [""]}, "/tags/0"),
        ({"type": "count", "tags": ["t"] * 17}, "/tags"),
    ],
)
async def test_an_invalid_submission_is_refused_with_a_pointer(http, broker, submission, pointer):
    """Unknown fields are refused, so that a typo is noticed and internal fields can't be set."""
    body = problem(await http.post("/v1/jobs", json=submission), 422, "invalid-request")
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert [] == broker.submitted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"type":"count"} trailing',
        b'{"type":"count","params":{"steps":NaN}}',
        b'{"type":"count","params":{"steps":Infinity}}',
        b'{"type":"count","params":{"steps":1e999}}',
        b'{"type":"count","type":"crunch"}',
        b'{"type":"count","params":{"a/b":"\\u0000"}}',
        b'{"type":"count","params":{"a/b":"\\ud800"}}',
        b'{"type":"\xff"}',
        b"[" * 50_000,
        b'{"type":"crunch","params":{"deep":' + b"[" * 110 + b"]" * 110 + b"}}",
        b'{"type":"count","params":{"steps":' + b"9" * 5_000 + b"}}",
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_body_that_is_not_strict_json_is_malformed(http, broker, body):
    """JSON that parsers read differently is refused."""
    response = await http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    problem(response, 400, "malformed-request")
    assert [] == broker.submitted


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/xml", "application/x-www-form-urlencoded"])
async def test_an_unsupported_media_type_gets_415(http, media_type):
    """Accept-Post names the supported ones."""
    headers = {"Content-Type": media_type} if media_type else {}
    response = await http.post("/v1/jobs", content=json.dumps(JOB), headers=headers)
    problem(response, 415, "unsupported-media-type")
    assert "application/json" in response.headers["accept-post"]


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip", "x"])
@pytest.mark.parametrize("path, body", [("jobs", JOB), ("jobs:batch", {"jobs": [JOB]})])
async def test_a_content_encoding_gets_415(http, broker, coding, path, body):
    """Nothing is guessed from bytes of another coding. Accept-Encoding says which is accepted."""
    answer = await http.post(f"/v1/{path}", json=body, headers={"Content-Encoding": coding})
    problem(answer, 415, "unsupported-media-type")
    assert "identity" == answer.headers["accept-encoding"]
    assert [] == broker.submitted
    answer = await http.post(f"/v1/{path}", json=body, headers={"Content-Encoding": "Identity"})
    assert answer.status_code in {202, 207}


async def test_a_body_over_the_limit_is_refused_before_it_is_read(http, broker):
    """By its Content-Length, or by the number of bytes received."""
    big = b'{"type":"count","params":{"a/b":"' + b"x" * 100_000 + b'"}}'

    async def chunks():
        yield big[:50_000]
        yield big[50_000:]
        yield b"x" * 10_000_000

    for content in (big, chunks()):
        response = await http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
        problem(response, 413, "too-large")
        assert "close" == response.headers["connection"]
    assert [] == broker.submitted


async def test_params_over_the_limit_are_refused(http):
    """Every event carries the params; large input belongs in a file."""
    response = await http.post("/v1/jobs", json={"type": "crunch", "params": {"text": "x" * 70_000}})
    assert "65536" in problem(response, 413, "too-large")["detail"]


async def test_a_job_that_the_broker_refuses_gets_not_accepted(http, broker, blob_store):
    """503: submit again later; the uploaded files are removed."""
    broker.error = lambda command: NotAccepted("not connected to the broker")
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files={"file": b"x"})
    problem(response, 503, "not-accepted")
    assert "2" == response.headers["retry-after"]
    assert {} == blob_store.stored


async def test_a_job_without_a_publisher_confirm_gets_outcome_unknown(http, broker, blob_store):
    """503 with the id of the job: it may run, so its files stay."""
    broker.error = lambda command: OutcomeUnknown(command.job.id, "no confirm within 2.0 s")
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files={"file": b"x"})
    body = problem(response, 503, "outcome-unknown")
    assert response.headers["location"].endswith(body["job_id"])
    assert 200 == (await http.get(f"/v1/jobs/{body['job_id']}")).status_code
    assert 1 == len(blob_store.stored)


async def test_submission_works_while_redis_is_away(http, view, broker):
    """A job type that the gateway has read once needs no further read; others get 503."""
    assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code
    view.away = True
    assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code
    problem(await http.post("/v1/jobs", json={"type": "never-heard-of"}), 503, "not-accepted")
    assert 2 == len(broker.submitted)


@pytest.mark.parametrize("ago", [None, timedelta(seconds=1)], ids=["empty", "just announced"])
async def test_a_type_is_not_called_unknown_before_every_processor_can_have_announced_its_types(
    http, worker_store, ago
):
    """Redis may have lost them: 503, which clients repeat. A type that is known is accepted."""
    worker_store.since = ago and now() - ago
    problem(await http.post("/v1/jobs", json={"type": "never-heard-of"}), 503, "not-accepted")
    assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code
    worker_store.since = now() - timedelta(minutes=1)
    problem(await http.post("/v1/jobs", json={"type": "never-heard-of"}), 422, "unknown-job-type")


async def test_a_type_that_a_heartbeat_names_is_not_unknown(http, worker_store):
    """Its announcement is repeated less often: after a loss of Redis, the heartbeat comes first."""
    worker_store.since = now() - timedelta(minutes=1)
    worker_store.heartbeats = [HEARTBEAT.model_copy(update={"types": ("heard-of",)})]
    problem(await http.post("/v1/jobs", json={"type": "heard-of"}), 503, "not-accepted")


async def test_a_job_names_the_version_of_its_type_that_its_params_were_checked_against(http, broker, worker_store):
    """Older trackers record none."""
    await http.post("/v1/jobs", json=JOB)
    worker_store.types = [known.with_version() for known in worker_store.types]
    await http.get("/v1/job-types")
    await http.post("/v1/jobs", json=JOB)
    assert [None, worker_store.types[0].version] == [command.job.type_version for command in broker.submitted]


async def test_files_are_submitted_in_their_order(http, broker, blob_store):
    """One part of the form is the job, the others are files."""
    files = [("file", ("docs/a.txt", b"aaa")), ("file", ("b.txt", b""))]
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files=files)
    events = [(file["name"], file["size"], file["media_type"]) for file in response.json()["files"]]
    assert [("docs/a.txt", 3, "text/plain"), ("b.txt", 0, "text/plain")] == events
    assert sha256(b"aaa").hexdigest() == response.json()["files"][0]["digest"]
    (command,) = broker.submitted
    assert [b"aaa", b""] == [blob_store.stored[ref.key] for ref in command.job.files]


@pytest.mark.parametrize(
    "name, shown",
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/abs/x", "abs/x"),
        ("C:\\dir\\y.txt", "y.txt"),
        ("a\x1b[31mb", "a[31mb"),
        ("..", "unnamed"),
        ("z" * 300, "z" * 255),
    ],
)
async def test_the_name_of_a_file_is_only_a_label(http, blob_store, name, shown):
    """It leads out of no folder, and nothing is stored under it."""
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files=[("file", (name, b"x"))])
    assert [shown] == [file["name"] for file in response.json()["files"]]
    assert all(key.startswith("jobs/") and ".." not in key for key in blob_store.stored)


@pytest.mark.parametrize(
    "data, files, status, slug",
    [
        ({}, [("file", ("a", b""))], 400, "malformed-request"),
        ({"job": "{"}, [("file", ("a", b""))], 400, "malformed-request"),
        ({"job": json.dumps(JOB), "other": "x"}, [("file", ("a", b""))], 400, "malformed-request"),
        ({"job": json.dumps(JOB)}, [("file", ("a", b""))] * 6, 400, "malformed-request"),
        ({"job": json.dumps(JOB)}, [("file", ("a", b"x" * 210_000))], 413, "too-large"),
        ({"job": "[]"}, [("file", ("a", b""))], 422, "invalid-request"),
    ],
)
async def test_an_invalid_form_is_refused(http, broker, blob_store, data, files, status, slug):
    """With the same problems as JSON; no file is stored."""
    problem(await http.post("/v1/jobs", data=data, files=files), status, slug)
    assert ([], {}) == (broker.submitted, blob_store.stored)


@pytest.mark.parametrize("media_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
async def test_a_form_with_a_missing_or_wrong_boundary_is_malformed(http, media_type):
    """400."""
    response = await http.post("/v1/jobs", content=b"--y\r\n\r\n", headers={"Content-Type": media_type})
    problem(response, 400, "malformed-request")


async def test_an_unusable_schema_affects_only_its_own_type(http, types, worker_store):
    """A remote `$ref` makes a schema unusable."""
    for schema in ({"type": "no-such-type"}, {"$ref": "http://127.0.0.1:1/schema.json"}, {"$ref": "#/$defs/Missing"}):
        worker_store.types = [*types, types[0].model_copy(update={"type": "broken", "params_schema": schema})]
        problem(await http.post("/v1/jobs", json={"type": "broken"}), 422, "unknown-job-type")
        assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code


@pytest.mark.parametrize(
    "verdict, status, slug, text",
    [
        (Verdict(valid=False), 422, "invalid-params", "they don't match the schema of tree"),
        (Verdict(valid=False, in_time=False), 422, "invalid-params", "they don't match the schema of tree"),
        (Verdict(valid=None), 422, "invalid-params", "they take too long to check against the schema of tree"),
        (Verdict(valid=None, in_time=False), 503, "not-accepted", "could not be checked in time"),
        (Verdict(valid=True), 202, None, None),
    ],
)
async def test_params_that_take_long_to_check_get_a_true_answer(
    http, types, worker_store, params_validator, verdict, status, slug, text
):
    """Without the validation errors, if finding them takes too long; 503 only if a repeat can succeed."""
    schema = {"properties": {"of": {"$ref": "#"}}}
    worker_store.types = [*types, types[0].model_copy(update={"type": "tree", "params_schema": schema})]
    params_validator.verdict = verdict
    response = await http.post("/v1/jobs", json={"type": "tree", "params": {"of": {}}})
    if slug is None:
        assert status == response.status_code
        return
    body = problem(response, status, slug)
    assert text in str(body)
    if status == 422:
        assert ["/params"] == [error["pointer"] for error in body["errors"]]


BOUNDARY = b"BoundaryOfTheTest"


def form(*parts, end=b"--"):
    """Return the bytes of a form; each part is the parameters of its Content-Disposition and its content."""
    text = b"".join(
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + parameters + b"\r\n\r\n" + content + b"\r\n"
        for parameters, content in parts
    )
    return text + b"--" + BOUNDARY + end


JOB_PART = (b'name="job"', json.dumps(JOB).encode())
FILE_PART = (b'name="file"; filename="a.txt"', b"aaa")


@pytest.mark.parametrize(
    "body, reason",
    [
        (form(JOB_PART, FILE_PART)[:-30], "cut off"),
        (form(JOB_PART, FILE_PART, end=b""), "cut off"),
        (form(JOB_PART, (b'name="file"', b"aaa")), "no file name"),
        (form(JOB_PART, JOB_PART, FILE_PART), "2 parts named job"),
        (form(FILE_PART), "0 parts named job"),
    ],
)
async def test_an_incomplete_or_ambiguous_form_is_refused(http, broker, blob_store, body, reason):
    """No file is dropped silently."""
    media_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    response = await http.post("/v1/jobs", content=body, headers={"Content-Type": media_type})
    assert reason in problem(response, 400, "malformed-request")["detail"]
    assert ([], {}) == (broker.submitted, blob_store.stored)


async def test_a_complete_form_is_accepted(http, blob_store):
    """Also with the job as a file part, and with an epilogue."""
    media_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    job_file = (b'name="job"; filename="job.json"', JOB_PART[1])
    for body in (form(JOB_PART, FILE_PART), form(job_file, FILE_PART, end=b"--\r\n")):
        response = await http.post("/v1/jobs", content=body, headers={"Content-Type": media_type})
        assert 202 == response.status_code
    assert [b"aaa", b"aaa"] == list(blob_store.stored.values())


async def test_an_internal_error_is_a_problem(http, blob_store):
    """500, for example when the disk is full."""

    async def fail(key, content):
        raise OSError("no space left")

    blob_store.put = fail
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files={"file": b"x"})
    assert (500, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert response.json()["type"].endswith("#internal-error")


async def test_a_stalled_body_gets_408(app, http, broker, monkeypatch):
    """The connection is closed, and nothing is submitted."""
    monkeypatch.setattr("milepost_gateway.api.requests.BODY_TIMEOUT", 0.01)

    async def body():
        yield b'{"type":'
        await asyncio.sleep(3_600)

    answer = await http.post("/v1/jobs", content=body(), headers={"Content-Type": "application/json"})
    problem(answer, 408, "request-timeout")
    assert "close" == answer.headers["connection"]
    assert [] == broker.submitted


async def test_a_submission_and_each_retry_have_a_grant_of_their_own(http, broker, view, keyring):
    """Trackers believe no job without one, and no run that no gateway let begin."""
    job_id = (await http.post("/v1/jobs", json={"type": "count", "params": {"steps": 1}})).json()["id"]
    submitted = broker.submitted[-1].job
    assert is_granted(submitted, keyring)
    view.project(JobSucceeded(job=submitted.model_copy(update={"finished_at": now()})))
    await http.post(f"/v1/jobs/{job_id}/retry")
    again = broker.submitted[-1].job
    assert (2, True) == (again.run, is_granted(again, keyring))
    assert not is_granted(again.model_copy(update={"grant": submitted.grant}), keyring)
