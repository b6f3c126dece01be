"""`POST /v1/jobs`: what a client gets for what it sends."""

import asyncio
import json
from hashlib import sha256

import pytest
from problem_answers import problem

from milepost_gateway.errors import NotAccepted, OutcomeUnknown

JOB = {"type": "count", "params": {"steps": 3}}


@pytest.fixture
def types(store):
    return list(store.types)


async def test_a_202_says_where_to_look_and_when(http, broker):
    """Location, Operation-Location, Retry-After, and the document."""
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


async def test_the_callers_trace_goes_on_with_the_job(http, broker):
    """One trace from the POST to the last event; what is no trace is ignored."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await http.post("/v1/jobs", json=JOB, headers={"traceparent": trace})
    await http.post("/v1/jobs", json=JOB, headers={"traceparent": "00-zz"})
    assert [trace, None] == [command.traceparent for command in broker.submitted]


@pytest.mark.parametrize("name, near", [("cout", "count"), ("crunchy", "crunch"), ("zzz", "count")])
async def test_an_unknown_type_names_the_known_ones_that_are_near(http, broker, name, near):
    """A typo is mended in one look."""
    body = problem(await http.post("/v1/jobs", json={"type": name}), 422, "unknown-job-type")
    assert near in body["detail"]
    assert name not in body["detail"].replace(near, "")
    assert [] == broker.submitted


async def test_with_no_type_announced_it_is_said_what_is_missing(http, store):
    """The first mistake of a new user is to start no processor."""
    store.types = []
    assert "start one" in problem(await http.post("/v1/jobs", json=JOB), 422, "unknown-job-type")["detail"]


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
async def test_params_are_held_against_the_announced_schema(http, broker, params, pointers):
    """Each place that is wrong is named by a JSON pointer, and no job comes of it."""
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
async def test_a_submission_that_does_not_fit_names_the_place(http, broker, submission, pointer):
    """Unknown fields are refused, so that a typo is told and internals can't be set."""
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
async def test_what_is_no_strict_json_is_malformed(http, broker, body):
    """JSON that two readers understand differently is read by none."""
    response = await http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    problem(response, 400, "malformed-request")
    assert [] == broker.submitted


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/xml", "application/x-www-form-urlencoded"])
async def test_another_media_type_is_refused_with_what_would_do(http, media_type):
    """415, and Accept-Post says what is understood."""
    headers = {"Content-Type": media_type} if media_type else {}
    response = await http.post("/v1/jobs", content=json.dumps(JOB), headers=headers)
    problem(response, 415, "unsupported-media-type")
    assert "application/json" in response.headers["accept-post"]


async def test_a_body_over_the_limit_is_refused_before_it_is_read(http, broker):
    """By its announced length, and by what really comes."""
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
    """Every event carries them: what grows belongs into a file."""
    response = await http.post("/v1/jobs", json={"type": "crunch", "params": {"text": "x" * 70_000}})
    assert "65536" in problem(response, 413, "too-large")["detail"]


async def test_a_job_that_the_broker_did_not_take_is_told_so(http, broker, blobs):
    """503 not-accepted: submit again later; nothing is left of its files."""
    broker.error = lambda command: NotAccepted("not connected to the broker")
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files={"file": b"x"})
    problem(response, 503, "not-accepted")
    assert "2" == response.headers["retry-after"]
    assert {} == blobs.stored


async def test_a_job_without_a_confirm_is_told_so_with_its_id(http, broker, blobs):
    """503 outcome-unknown: it may run, so its id is given and its files stay."""
    broker.error = lambda command: OutcomeUnknown(command.job.id, "no confirm within 2.0 s")
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files={"file": b"x"})
    body = problem(response, 503, "outcome-unknown")
    assert response.headers["location"].endswith(body["job_id"])
    assert 200 == (await http.get(f"/v1/jobs/{body['job_id']}")).status_code
    assert 1 == len(blobs.stored)


async def test_submission_works_while_redis_is_away(http, store, broker):
    """A type that is known once needs no Redis any more."""
    assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code
    store.away = True
    assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code
    problem(await http.post("/v1/jobs", json={"type": "never-heard-of"}), 503, "not-accepted")
    assert 2 == len(broker.submitted)


async def test_files_travel_along_in_their_order(http, broker, blobs):
    """A form: one part says what to do, the others are files."""
    files = [("file", ("docs/a.txt", b"aaa")), ("file", ("b.txt", b""))]
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files=files)
    told = [(one["name"], one["size"], one["media_type"]) for one in response.json()["files"]]
    assert [("docs/a.txt", 3, "text/plain"), ("b.txt", 0, "text/plain")] == told
    assert sha256(b"aaa").hexdigest() == response.json()["files"][0]["digest"]
    (command,) = broker.submitted
    assert [b"aaa", b""] == [blobs.stored[ref.key] for ref in command.job.files]


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
async def test_a_files_name_is_a_label_and_nothing_more(http, blobs, name, shown):
    """No path leads out of anywhere, and nothing is stored under a name that a client chose."""
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files=[("file", (name, b"x"))])
    assert [shown] == [file["name"] for file in response.json()["files"]]
    assert all(key.startswith("jobs/") and ".." not in key for key in blobs.stored)


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
async def test_a_form_that_does_not_fit_is_refused(http, broker, blobs, data, files, status, slug):
    """With the same problems as JSON, and no file kept."""
    problem(await http.post("/v1/jobs", data=data, files=files), status, slug)
    assert ([], {}) == (broker.submitted, blobs.stored)


@pytest.mark.parametrize("media_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
async def test_a_form_that_is_none_is_malformed(http, media_type):
    """Without a boundary, or with another one inside."""
    response = await http.post("/v1/jobs", content=b"--y\r\n\r\n", headers={"Content-Type": media_type})
    problem(response, 400, "malformed-request")


async def test_a_type_whose_schema_is_unusable_hides_no_other(http, store, types):
    """One processor's mistake is not everybody's outage; nothing is fetched because a schema says so."""
    for schema in ({"type": "no-such-type"}, {"$ref": "http://127.0.0.1:1/schema.json"}, {"$ref": "#/$defs/Missing"}):
        store.types = [*types, types[0].model_copy(update={"type": "broken", "params_schema": schema})]
        problem(await http.post("/v1/jobs", json={"type": "broken"}), 422, "unknown-job-type")
        assert 202 == (await http.post("/v1/jobs", json=JOB)).status_code


BOUNDARY = b"BoundaryOfTheTest"


def form(*parts, end=b"--"):
    """A form by hand: each part is its headers' words, and its content."""
    text = b"".join(
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + words + b"\r\n\r\n" + content + b"\r\n"
        for words, content in parts
    )
    return text + b"--" + BOUNDARY + end


JOB_PART = (b'name="job"', json.dumps(JOB).encode())
FILE_PART = (b'name="file"; filename="a.txt"', b"aaa")


@pytest.mark.parametrize(
    "body, says",
    [
        (form(JOB_PART, FILE_PART)[:-30], "cut off"),
        (form(JOB_PART, FILE_PART, end=b""), "cut off"),
        (form(JOB_PART, (b'name="file"', b"aaa")), "no file name"),
        (form(JOB_PART, JOB_PART, FILE_PART), "2 parts named job"),
        (form(FILE_PART), "0 parts named job"),
    ],
)
async def test_a_form_in_which_something_would_get_lost_is_refused(http, broker, blobs, body, says):
    """A file that is dropped silently is worse than a refusal."""
    media_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    response = await http.post("/v1/jobs", content=body, headers={"Content-Type": media_type})
    assert says in problem(response, 400, "malformed-request")["detail"]
    assert ([], {}) == (broker.submitted, blobs.stored)


async def test_a_form_by_hand_is_accepted_when_it_is_whole(http, blobs):
    """Also with the job as a file part, and an epilogue."""
    media_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    job_file = (b'name="job"; filename="job.json"', JOB_PART[1])
    for body in (form(JOB_PART, FILE_PART), form(job_file, FILE_PART, end=b"--\r\n")):
        response = await http.post("/v1/jobs", content=body, headers={"Content-Type": media_type})
        assert 202 == response.status_code
    assert [b"aaa", b"aaa"] == list(blobs.stored.values())


async def test_a_mistake_of_ours_is_a_problem_too(http, blobs):
    """A disk that is full, for one: 500, in the same language."""

    async def full(key, content):
        raise OSError("no space left")

    blobs.put = full
    response = await http.post("/v1/jobs", data={"job": json.dumps(JOB)}, files={"file": b"x"})
    assert (500, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert response.json()["type"].endswith("#internal-error")


async def test_a_body_that_stops_coming_is_not_waited_for(app, http, broker, monkeypatch):
    """408, and nothing was handed over."""
    monkeypatch.setattr("milepost_gateway.api.requests.GO_ON_WITHIN", 0.01)

    async def body():
        yield b'{"type":'
        await asyncio.sleep(3_600)

    answer = await http.post("/v1/jobs", content=body(), headers={"Content-Type": "application/json"})
    problem(answer, 408, "request-timeout")
    assert "close" == answer.headers["connection"]
    assert [] == broker.submitted
