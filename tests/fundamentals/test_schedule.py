"""Run a job later.

A submission says when: `delay` in seconds, or `run_at` as a time with a zone, up to 90 days from now. The job is
`scheduled` until then. It waits in RabbitMQ, so restarts of any part do not lose or delay it.

It never starts early; how soon it starts after its time depends on who is free. `expires_in` limits that: a job that
has not started by `start_by` ends as `failed` with the error kind `expired`, and never runs.
"""

from datetime import UTC, datetime, timedelta

from problem_answers import problem


def moment(text):
    return datetime.fromisoformat(text)


def test_a_delayed_job_starts_after_its_delay(http, wait_for):
    """Not before, and soon after."""
    submitted = http.post("/v1/jobs", json={"type": "noop", "delay": 2})
    job = submitted.json()
    assert (202, "scheduled", None) == (submitted.status_code, job["status"], job["started_at"])
    assert timedelta(seconds=2) == moment(job["run_at"]) - moment(job["updated_at"])

    document = wait_for(submitted.headers["location"])
    assert ("succeeded", 1) == (document["status"], document["attempt"])
    assert timedelta(0) <= moment(document["started_at"]) - moment(job["run_at"]) <= timedelta(seconds=5)


def test_a_job_runs_at_a_time_and_must_start_by_another(http, wait_for):
    """`start_by` is `run_at` and `expires_in` together; without `expires_in` it is a week later."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    job = {"type": "noop", "run_at": at.isoformat(), "expires_in": 600}
    submitted = http.post("/v1/jobs", json=job)
    assert "scheduled" == submitted.json()["status"]
    assert (at, at + timedelta(minutes=10)) == tuple(moment(submitted.json()[name]) for name in ("run_at", "start_by"))

    document = wait_for(submitted.headers["location"])
    assert "succeeded" == document["status"]
    assert at <= moment(document["started_at"]) <= at + timedelta(seconds=5)


def test_a_time_that_is_ambiguous_or_too_far_away_is_refused(http):
    """The problem points to the field."""
    far = (datetime.now(UTC) + timedelta(days=91)).isoformat()
    refused = problem(http.post("/v1/jobs", json={"type": "noop", "run_at": far}), 422, "invalid-request")
    assert [{"pointer": "/run_at", "detail": "it is more than 90 days away"}] == refused["errors"]
    both = {"type": "noop", "run_at": datetime.now(UTC).isoformat(), "delay": 2}
    refused = problem(http.post("/v1/jobs", json=both), 422, "invalid-request")
    assert [{"pointer": "", "detail": "give run_at or delay, not both"}] == refused["errors"]
