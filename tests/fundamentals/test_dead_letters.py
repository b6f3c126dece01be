"""A job that kills its workers is set apart, and can be run again once the cause is fixed.

A processor that dies has not acknowledged its job, so RabbitMQ delivers the job to another one. A job that is itself
the cause would kill one after the other. After a few deliveries it goes to quarantine, where it runs alone; if its
workers die there too, it ends as `failed` with the error kind `dead_lettered`. Innocent jobs beside it succeed.

`GET /v1/dead-letters` lists such jobs. `POST /v1/dead-letters/{id}/redrive` runs one again, as the next run of the job.
"""

import pytest
from problem_answers import problem
from waiting import wait_until


@pytest.fixture
def restart_processors(stack, http):
    """Start processors that have died, as an orchestrator does; after the test, both are there."""

    def restart():
        for name in ("processor-1", "processor-2"):
            stack.revive(name)

    yield restart
    restart()
    alive = lambda: [one["instance"] for one in http.get("/v1/processors").json()["items"]]  # noqa: E731
    wait_until(lambda: len(alive()) == 2, within=30, what="two processors are there, and the dead ones forgotten")


def test_a_job_that_kills_its_workers_ends_as_a_dead_letter_and_is_redriven(http, restart_processors, tmp_path):
    """It stops after a few attempts, and its document lists them; a redrive is the next run of the same job."""
    fixed = tmp_path / "fixed"
    submitted = http.post("/v1/jobs", json={"type": "crash", "params": {"fixed": str(fixed)}})
    innocent = http.post("/v1/jobs", json={"type": "count", "params": {"steps": 10, "delay": 0.05}})
    location = submitted.headers["location"]

    def ended(at):
        restart_processors()
        document = http.get(at).json()
        return document if document["status"] in ("succeeded", "failed") else None

    document = wait_until(lambda: ended(location), within=90, what="the job is given up")
    assert ("failed", "dead_lettered") == (document["status"], document["error"]["kind"])
    assert "its worker died each time" in document["error"]["message"]
    assert ["lost"] * 4 == [attempt["why"] for attempt in document["attempts"]], "two deliveries, then two alone"
    beside = wait_until(lambda: ended(innocent.headers["location"]), within=30, what="the other job has ended")
    assert "succeeded" == beside["status"]

    (letter,) = http.get("/v1/dead-letters?type=crash").json()["items"]
    assert {
        "job_id": document["id"],
        "type": "crash",
        "queue": "default",
        "run": 1,
        "given_up_at": letter["given_up_at"],
        "error": document["error"],
    } == letter

    fixed.touch()
    redriven = http.post(f"/v1/dead-letters/{document['id']}/redrive")
    assert (202, location, 2) == (redriven.status_code, redriven.headers["location"], redriven.json()["run"])
    document = wait_until(lambda: ended(location), within=30, what="the next run has ended")
    assert ("succeeded", 2, "fixed") == (document["status"], document["run"], document["result"])
    assert [] == http.get("/v1/dead-letters?type=crash").json()["items"]


def test_only_a_dead_letter_can_be_redriven(http, wait_for):
    """A job that failed in the ordinary way is retried with `POST /v1/jobs/{id}/retry`."""
    submitted = http.post("/v1/jobs", json={"type": "digest-files"})
    document = wait_for(submitted.headers["location"])
    assert "failed" == document["status"]
    problem(http.post(f"/v1/dead-letters/{document['id']}/redrive"), 409, "not-a-dead-letter")
