"""Submit a job, and poll until it has ended.

A client sends `POST /v1/jobs` with a job type and its params. The answer is 202 with the job's document, and its URL in
`Location`. `GET` on that URL answers the document as it is now: its `status` and, in the end, its `result` or `error`.

A 202 is a promise: RabbitMQ has stored the job durably. It runs at least once, unless it is canceled or expires before,
and its URL never answers 404. What can't run is refused at once, with a problem (RFC 9457) that says what is wrong.
"""

import pytest
from problem_answers import problem
from waiting import wait_until


def test_a_submitted_job_is_polled_until_it_has_succeeded(http):
    """The 202 has the URL, each answer says when to ask again, and the last one has the result."""
    submitted = http.post("/v1/jobs", json={"type": "echo", "params": {"text": "hello", "pause": 0.5}})
    assert 202 == submitted.status_code
    job = submitted.json()
    assert job | {"type": "echo", "status": "queued", "attempt": 0, "result": None, "error": None} == job
    location = submitted.headers["location"]
    assert location.endswith(f"/v1/jobs/{job['id']}")

    def ended():
        poll = http.get(location)
        assert 200 == poll.status_code
        if poll.json()["status"] in ("queued", "running"):
            assert 1 <= int(poll.headers["retry-after"]) <= 30
            return None
        return poll

    last = wait_until(ended, within=30, what="the job has ended")
    document = last.json()
    worker, started_at, finished_at = document["worker"], document["started_at"], document["finished_at"]
    attempt = {"number": 1, "worker": worker, "started_at": started_at, "ended_at": finished_at, "why": "succeeded"}
    assert {
        "id": job["id"],
        "version": document["version"],
        "type": "echo",
        "queue": "default",
        "params": {"text": "hello", "pause": 0.5},
        "tags": [],
        "batch": None,
        "status": "succeeded",
        "run": 1,
        "attempt": 1,
        "attempts": [attempt],
        "worker": worker,
        "progress": None,
        "items": {"count": 0, "last": []},
        "result": {"text": "hello"},
        "result_file": None,
        "files": [],
        "outputs": [],
        "error": None,
        "cancel_requested": None,
        "waiting": None,
        "unclaimed": False,
        "created_at": job["created_at"],
        "started_at": started_at,
        "updated_at": document["updated_at"],
        "finished_at": finished_at,
        "run_at": None,
        "start_by": job["start_by"],
        "expires_at": document["expires_at"],
        "links": {
            "self": f"/v1/jobs/{job['id']}",
            "events": f"/v1/jobs/{job['id']}/events",
            "result": f"/v1/jobs/{job['id']}/result",
            "cancel": f"/v1/jobs/{job['id']}/cancel",
        },
    } == document
    assert {"text": "hello"} == http.get(document["links"]["result"]).json()
    assert 304 == http.get(location, headers={"If-None-Match": last.headers["etag"]}).status_code


@pytest.mark.parametrize(
    "type, params, result",
    [
        ("echo", {"text": "hello", "pause": 0.01}, {"text": "hello"}),
        ("noop", {}, None),
        ("count", {"steps": 3, "delay": 0}, {"counted": 3}),
        ("crunch", {"limit": 100_000}, {"limit": 100_000, "count": 9_592, "largest": 99_991}),
    ],
)
def test_a_client_that_is_ready_to_wait_gets_the_result_in_the_first_answer(http, type, params, result):
    """`Prefer: wait` makes it 200 in place of 202, if the job ends in time: sync and async handlers, on any queue."""
    answer = http.post("/v1/jobs", json={"type": type, "params": params}, headers={"Prefer": "wait=30"})
    assert (200, "succeeded", result) == (answer.status_code, answer.json()["status"], answer.json()["result"])


def test_a_job_that_fails_says_why(http, wait_for):
    """`error` has a kind for programs and a message for people; there is no result."""
    submitted = http.post("/v1/jobs", json={"type": "digest-files", "params": {"paths": ["anything.txt"]}})
    document = wait_for(submitted.headers["location"])
    message = "this processor reads no local files: DIGEST_FILES_ROOT is not set. Upload the files instead"
    assert ("failed", None) == (document["status"], document["result"])
    error = document["error"]
    assert error | {"kind": "input-error", "message": message} == error
    assert message == problem(http.get(document["links"]["result"]), 409, "job-failed")["detail"]


def test_the_processors_announce_what_can_be_submitted_and_the_rest_is_refused(http):
    """Each type comes with a JSON Schema of its params; nobody configured the gateway."""
    wanted = {"count", "crunch", "digest-files", "echo", "noop", "thumbnails"}

    def announced():
        found = {one["type"]: one for one in http.get("/v1/job-types").json()["items"]}
        return found if wanted <= set(found) else None

    crunch = wait_until(announced, within=20, what="every type is announced")["crunch"]
    assert ("cpu", 2) == (crunch["queue"], crunch["params_schema"]["properties"]["limit"]["minimum"])

    def two_processors():
        found = http.get("/v1/processors").json()["items"]
        return found if len(found) == 2 else None

    processors = wait_until(two_processors, within=20, what="there are two processors")
    assert all(wanted <= set(processor["types"]) for processor in processors)

    refused = problem(http.post("/v1/jobs", json={"type": "eco"}), 422, "unknown-job-type")
    assert "Announced types include echo" in refused["detail"]
    refused = problem(http.post("/v1/jobs", json={"type": "crunch", "params": {"limit": 1}}), 422, "invalid-params")
    assert [{"pointer": "/params/limit", "detail": "1 is less than the minimum of 2"}] == refused["errors"]
