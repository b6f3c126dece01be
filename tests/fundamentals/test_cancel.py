"""Cancel a job, and see when and how it took effect.

A client sends `POST /v1/jobs/{id}/cancel`. A 202 means that the request is stored, not yet that the job has stopped:
`cancel_requested` in the document says when it was made, when it took effect, and `how`.

`before-start`: the job never runs. `cooperative`: the handler stopped at its next report. `forced`: it did not, and was
stopped after a grace time. `too-late`: it ended by itself before. A run is canceled or has succeeded, never both.
"""

from problem_answers import problem


def test_a_job_that_has_not_started_never_runs(http, wait_for):
    """It ends at once; no processor has to take it first."""
    submitted = http.post("/v1/jobs", json={"type": "noop", "delay": 3600})
    location = submitted.headers["location"]
    asked = http.post(f"{location}/cancel")
    assert (202, location) == (asked.status_code, asked.headers["location"])

    document = wait_for(location)
    assert ("canceled", 0, []) == (document["status"], document["attempt"], document["attempts"])
    cancel = document["cancel_requested"]
    assert {"at": cancel["at"], "effective_at": document["finished_at"], "how": "before-start"} == cancel
    assert cancel["at"] <= cancel["effective_at"]
    problem(http.get(document["links"]["result"]), 409, "job-canceled")


def test_a_running_job_stops_at_its_next_report(http, wait_for):
    """What it has reported stays in the document."""
    submitted = http.post("/v1/jobs", json={"type": "count", "params": {"steps": 1000, "delay": 0.1}})
    location = submitted.headers["location"]
    wait_for(location, "running")
    asked = http.post(f"{location}/cancel")
    assert 202 == asked.status_code
    assert asked.json()["cancel_requested"]["at"]

    document = wait_for(location)
    assert ("canceled", "cooperative") == (document["status"], document["cancel_requested"]["how"])
    assert (None, None, 1000) == (document["result"], document["error"], document["progress"]["total"])
    assert [(1, "canceled")] == [(attempt["number"], attempt["why"]) for attempt in document["attempts"]]


def test_a_job_that_has_ended_can_not_be_canceled(http, wait_for):
    """409, and the document stays as it is."""
    submitted = http.post("/v1/jobs", json={"type": "noop"})
    location = submitted.headers["location"]
    document = wait_for(location)
    problem(http.post(f"{location}/cancel"), 409, "job-already-finished")
    assert document == http.get(location).json()
