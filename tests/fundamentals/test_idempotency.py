"""Submit safely when answers may be lost: the same key is the same job.

A client that got no answer can't know whether its job was accepted. It sends each submission with an `Idempotency-Key`
of its own, and repeats the request with the same key until it gets an answer.

Within a day, a key makes one job, at any gateway: a repeat gets 202 with the same id, and the document as it is now.
The same key with another body is a mistake of the client, and is refused.
"""

from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import pytest
from problem_answers import problem


@pytest.fixture
def key():
    return token_hex(8)


def test_a_repeated_submission_is_the_same_job(http, wait_for, key):
    """Also after the job has ended: it does not run again."""
    job = {"type": "echo", "params": {"text": "hello"}}
    first = http.post("/v1/jobs", json=job, headers={"Idempotency-Key": key})
    wait_for(first.headers["location"])
    again = http.post("/v1/jobs", json=job, headers={"Idempotency-Key": key})
    assert (202, first.headers["location"]) == (again.status_code, again.headers["location"])
    document = again.json()
    assert document | {"id": first.json()["id"], "status": "succeeded", "run": 1, "attempt": 1} == document

    other = http.post("/v1/jobs", json=job)
    assert first.json()["id"] != other.json()["id"], "without a key, each request is a job"


def test_a_key_belongs_to_one_body(http, key):
    """The order of the fields does not matter."""
    first = http.post("/v1/jobs", json={"type": "noop", "tags": [key]}, headers={"Idempotency-Key": key})
    same = http.post("/v1/jobs", json={"tags": [key], "type": "noop"}, headers={"Idempotency-Key": key})
    assert first.json()["id"] == same.json()["id"]
    different = http.post("/v1/jobs", json={"type": "noop", "tags": ["b"]}, headers={"Idempotency-Key": key})
    problem(different, 422, "key-reused")


def test_concurrent_submissions_with_one_key_make_one_job(http, wait_for, key):
    """A request that comes while the first is in progress gets the same job, or 409 with `Retry-After`."""

    def submit(_):
        return http.post("/v1/jobs", json={"type": "noop", "tags": [key]}, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(submit, range(16)))
    accepted = [answer for answer in answers if answer.status_code == 202]
    for answer in answers:
        if answer.status_code != 202:
            problem(answer, 409, "key-in-flight")
            assert answer.headers["retry-after"]
    (job_id,) = {answer.json()["id"] for answer in accepted}
    wait_for(f"/v1/jobs/{job_id}")
    assert [job_id] == [one["id"] for one in http.get(f"/v1/jobs?tag={key}").json()["items"]]
