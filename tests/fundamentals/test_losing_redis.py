"""Redis may lose all its data; no job is lost.

Jobs and events are in RabbitMQ; Redis has only the view that status requests read. While Redis is down, jobs are still
accepted and run. A status request gets 503 `status-unavailable` with `Retry-After`, never a wrong answer, and
never 404 for an id that was accepted: the id itself proves that it was issued.

When Redis is back, empty or not, the trackers restore the view from the log in RabbitMQ. Until they have confirmed that
the view is complete, status requests get 503.
"""

from contextlib import contextmanager

from problem_answers import problem
from redis import Redis
from waiting import wait_until

from milepost_stack import processes


@contextmanager
def killed(stack, name):
    """Kill -9 one process of the stack; start it again in the end."""
    processes.find(stack.state.process(name)).kill()
    wait_until(lambda: processes.find(stack.state.process(name)) is None, within=10, what=f"{name} has ended")
    try:
        yield
    finally:
        stack.restart(name)


def test_without_redis_jobs_are_accepted_and_run_and_only_their_status_waits(stack, http):
    """202 for the submission, 503 for the status, and 404 only for what was never an id."""
    with killed(stack, "redis"):
        submitted = http.post("/v1/jobs", json={"type": "echo", "params": {"text": "hello"}})
        assert (202, "queued") == (submitted.status_code, submitted.json()["status"])
        unavailable = http.get(submitted.headers["location"])
        problem(unavailable, 503, "status-unavailable")
        assert unavailable.headers["retry-after"]
        problem(http.get("/v1/jobs/no-such-id"), 404, "unknown-job")

    def succeeded():
        poll = http.get(submitted.headers["location"])
        assert poll.status_code in (200, 503)
        return poll.json() if poll.json()["status"] == "succeeded" else None

    document = wait_until(succeeded, within=30, what="the job's end is in the view")
    assert {"text": "hello"} == document["result"]


def test_an_empty_redis_is_filled_again_from_the_log(stack, http, wait_for):
    """The same documents, and versions that do not go back; meanwhile no list omits a job."""
    locations = [
        http.post("/v1/jobs", json=job).headers["location"]
        for job in (
            {"type": "count", "params": {"steps": 3}, "tags": ["nightly"]},
            {"type": "digest-files"},
            {"type": "noop", "delay": 3600},
        )
    ]
    wait_for(locations[0], "succeeded")
    wait_for(locations[1], "failed")
    http.post(f"{locations[2]}/cancel")
    wait_for(locations[2], "canceled")
    before = [http.get(location).json() for location in locations]

    with Redis.from_url(stack.state.redis_url) as redis:
        redis.flushall()

    def all_answer():
        polls = [http.get(location) for location in locations]
        nightly = http.get("/v1/jobs?tag=nightly")
        assert {poll.status_code for poll in (*polls, nightly)} <= {200, 503}
        if nightly.status_code == 200:
            assert before[0]["id"] in {one["id"] for one in nightly.json()["items"]}
        return all(poll.status_code == 200 for poll in (*polls, nightly))

    wait_until(all_answer, within=30, what="every status is available again")
    after = [http.get(location).json() for location in locations]
    assert all(old["version"] <= new["version"] for old, new in zip(before, after, strict=True))
    assert before == [new | {"version": old["version"]} for old, new in zip(before, after, strict=True)]
