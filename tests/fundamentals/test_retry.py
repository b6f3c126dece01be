"""Try a job again: by itself after an error, and by hand after its end.

A handler that raises is called again if its `@job(retries=…)` allows it. The job is `retrying` meanwhile and waits in
RabbitMQ, about twice as long each time; the document shows the error, and in `run_at` when the next attempt is due.
An attempt begins with the state that the last one saved.

A client can run any ended job once more with `POST /v1/jobs/{id}/retry`: the same id and params, and the next `run`.
"""

from datetime import datetime

from problem_answers import problem


def test_an_attempt_that_raises_is_followed_by_another(http, wait_for):
    """The document lists both; the error is shown while the job waits, and is gone in the end."""
    submitted = http.post("/v1/jobs", json={"type": "call-service", "params": {"refusals": 1}})
    location = submitted.headers["location"]

    waiting = wait_for(location, "retrying")
    error = waiting["error"]
    refused = {"kind": "exception", "exception": "ConnectionError", "message": "the service does not answer"}
    assert error | refused == error
    assert datetime.fromisoformat(waiting["run_at"]) > datetime.fromisoformat(waiting["updated_at"])

    document = wait_for(location)
    assert ("succeeded", None) == (document["status"], document["error"])
    assert {"answered_at_attempt": 2} == document["result"], "the handler knows from its saved state"
    assert [(1, "ConnectionError: the service does not answer"), (2, "succeeded")] == [
        (attempt["number"], attempt["why"]) for attempt in document["attempts"]
    ]


def test_a_job_whose_retries_are_used_up_fails_with_the_last_error(http, wait_for):
    """Two retries are three attempts."""
    submitted = http.post("/v1/jobs", json={"type": "call-service", "params": {"refusals": 99}})
    document = wait_for(submitted.headers["location"])
    assert ("failed", 3, 3) == (document["status"], document["attempt"], len(document["attempts"]))
    assert ("exception", "ConnectionError") == (document["error"]["kind"], document["error"]["exception"])


def test_an_ended_job_can_be_run_again_by_hand(http, wait_for):
    """Not before its end; then the 202 shows the next run, not the end of the last one."""
    submitted = http.post("/v1/jobs", json={"type": "count", "params": {"steps": 10, "delay": 0.1}})
    location = submitted.headers["location"]
    wait_for(location, "running")
    problem(http.post(f"{location}/retry"), 409, "job-not-finished")

    assert ("succeeded", 1) == ((first := wait_for(location))["status"], first["run"])
    retried = http.post(f"{location}/retry")
    assert (202, location) == (retried.status_code, retried.headers["location"])
    job = retried.json()
    assert job | {"id": first["id"], "params": first["params"], "run": 2, "result": None} == job
    second = wait_for(location)
    assert ("succeeded", 2, {"counted": 10}) == (second["status"], second["run"], second["result"])
