"""Retry-After, results, waiting reasons, counts, queues and listings."""

from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest
from problem_answers import problem
from samples import ENDED, HEARTBEAT, RUNNING, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    JobCanceled,
    JobFailed,
    JobProgressed,
    JobScheduled,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.states import Status
from milepost_contracts.status.summary import Summary
from milepost_contracts.values import JobError
from milepost_gateway.api.responses import next_poll_in


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def project(view, job_id):
    """Return a function that projects an event of the job."""

    def project(kind, job, **changes):
        view.project(kind(job=job.model_copy(update={"id": job_id, **changes})), 6)

    return project


def summary(status, *, eta=None, silent_for=0.0, runs_in=None, at=None):
    moment = at or now()
    run_at = None if runs_in is None else moment + timedelta(seconds=runs_in)
    return Summary(
        status=status,
        queue="default",
        eta=eta,
        run=1,
        tags=(),
        updated_at=moment - timedelta(seconds=silent_for),
        run_at=run_at,
        expires_at=None,
    )


@pytest.mark.parametrize(
    "state, low, high",
    [
        ({"status": Status.RUNNING, "eta": 2.0}, 1, 1),
        ({"status": Status.RUNNING, "eta": 40.0}, 9, 11),
        ({"status": Status.RUNNING, "eta": 1e9}, 30, 30),
        ({"status": Status.RUNNING, "silent_for": 0.5}, 1, 1),
        ({"status": Status.QUEUED, "silent_for": 40.0}, 9, 11),
        ({"status": Status.QUEUED, "silent_for": -3600.0}, 1, 1),
        ({"status": Status.QUEUED, "silent_for": 0.0, "usual_wait": 40.0}, 9, 11),
        ({"status": Status.QUEUED, "silent_for": 30.0, "usual_wait": 40.0}, 2, 3),
        ({"status": Status.QUEUED, "silent_for": 60.0, "usual_wait": 40.0}, 13, 17),
        ({"status": Status.RUNNING, "silent_for": 0.0, "usual_wait": 40.0}, 1, 1),
        ({"status": Status.SCHEDULED, "runs_in": 10.0}, 9, 11),
        ({"status": Status.SCHEDULED, "runs_in": 86_400.0}, 30, 30),
        ({"status": Status.RETRYING, "runs_in": -5.0}, 1, 1),
    ],
)
def test_the_next_poll_follows_the_remaining_or_the_idle_time(state, low, high):
    """From the remaining time if it is known, else from the time since the last change; 1 to 30 s."""
    state = dict(state)
    at = now()
    usual_wait = state.pop("usual_wait", None)
    seconds = {next_poll_in(summary(**state, at=at), at, usual_wait=usual_wait) for _ in range(50)}
    assert low <= min(seconds) <= max(seconds) <= high


async def test_retry_after_of_a_queued_job_follows_the_queue_wait(http, app, worker_store):
    """From the 202 on, by the average wait that the queue's processors report; 1 s if one of them has a free thread."""
    busy = HEARTBEAT.model_copy(update={"threads": len(HEARTBEAT.running)})
    worker_store.heartbeats = [busy.model_copy(update={"queue_wait": {"default": seconds}}) for seconds in (40.0, 80.0)]
    await app.state.dependencies.job_types.processors()
    answer = await http.post("/v1/jobs", json={"type": "count"})
    assert 13 <= int(answer.headers["retry-after"]) <= 17
    assert "1" == (await http.post("/v1/jobs", json={"type": "crunch"})).headers["retry-after"]
    worker_store.heartbeats.append(HEARTBEAT.model_copy(update={"queues": ("default",), "threads": 99}))
    await app.state.dependencies.job_types.processors()
    answer = await http.post("/v1/jobs", json={"type": "count"})
    assert "1" == answer.headers["retry-after"], "a processor has a free thread"


async def test_an_ended_job_has_a_sunset_header(http, project, job_id):
    """The time at which it expires (RFC 8594), and no Retry-After."""
    project(JobSucceeded, ENDED)
    answer = await http.get(f"/v1/jobs/{job_id}")
    assert ENDED.finished_at + timedelta(days=7) - parsedate_to_datetime(answer.headers["sunset"]) < timedelta(
        seconds=1
    )
    assert "retry-after" not in answer.headers


async def test_the_result_route_returns_the_result_of_the_handler(http, project, job_id):
    """With the ETag of the job."""
    project(JobSucceeded, ENDED, result={"n": [1, None, "é"]})
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (200, {"n": [1, None, "é"]}, '"6"') == (answer.status_code, answer.json(), answer.headers["etag"])
    again = await http.get(f"/v1/jobs/{job_id}/result", headers={"If-None-Match": '"6"'})
    assert (304, b"") == (again.status_code, again.content)


async def test_the_result_of_an_unfinished_job_gets_202(http, project, job_id):
    """With Retry-After."""
    project(JobProgressed, RUNNING)
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (202, "running") == (answer.status_code, answer.json()["status"])
    assert "retry-after" in answer.headers


async def test_the_result_of_a_job_that_did_not_succeed_is_a_problem(http, project, job_id):
    """409 with the error message of a failed job; 404 for an unknown job."""
    project(JobFailed, ENDED, error=JobError(kind="exception", message="no such file"), result=None)
    assert "no such file" == problem(await http.get(f"/v1/jobs/{job_id}/result"), 409, "job-failed")["detail"]
    project(JobCanceled, ENDED, result=None)
    problem(await http.get(f"/v1/jobs/{job_id}/result"), 409, "job-canceled")
    problem(await http.get("/v1/jobs/unknown/result"), 404, "unknown-job")


async def test_redirect_leads_to_the_result_of_a_succeeded_job(http, project, job_id):
    """303 with `redirect=true`, and the document while there is no result."""
    project(JobProgressed, RUNNING)
    assert 200 == (await http.get(f"/v1/jobs/{job_id}?redirect=true")).status_code
    project(JobSucceeded, ENDED)
    answer = await http.get(f"/v1/jobs/{job_id}?redirect=true")
    assert (303, f"http://gateway.test/v1/jobs/{job_id}/result") == (answer.status_code, answer.headers["location"])
    project(JobCanceled, ENDED, result=None)
    assert 200 == (await http.get(f"/v1/jobs/{job_id}?redirect=true")).status_code


async def test_a_queued_job_without_a_live_processor_says_so(http, app, project, job_id, monkeypatch, worker_store):
    """`waiting` names the reason, and the ETag changes with it."""
    monkeypatch.setattr("milepost_gateway.core.job_types.UNSERVED_AFTER", 0.0)
    job_types = app.state.dependencies.job_types
    project(JobSubmitted, SUBMITTED, queue="gpu")
    before = await http.get(f"/v1/jobs/{job_id}")
    assert None is before.json()["waiting"], "the processors were not read yet"
    monkeypatch.setattr("milepost_gateway.core.job_types.UNSERVED_AFTER", 5.0)
    job_types._started_at -= 10
    await job_types.processors()
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": before.headers["etag"]})
    assert 200 == answer.status_code, "the ETag has changed"
    assert "no-live-processor" == answer.json()["waiting"]["reason"]
    assert "gpu" in answer.json()["waiting"]["detail"]
    same = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": answer.headers["etag"]})
    assert 304 == same.status_code
    worker_store.heartbeats = [HEARTBEAT.model_copy(update={"queues": ("gpu",)})]
    await job_types.processors()
    assert None is (await http.get(f"/v1/jobs/{job_id}")).json()["waiting"]


async def test_a_submission_that_waits_says_so_too(http, app, view):
    """Whoever waits for the end must learn why there is none."""
    job_types = app.state.dependencies.job_types
    job_types._started_at -= 100
    await job_types.processors()
    submit = {"json": {"type": "crunch"}, "headers": {"Idempotency-Key": "waits", "Prefer": "wait=0.01"}}
    job_id = (await http.post("/v1/jobs", **submit)).json()["id"]
    view.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id, "type": "crunch", "queue": "cpu"})))
    assert "no-live-processor" == (await http.post("/v1/jobs", **submit)).json()["waiting"]["reason"]


async def test_a_scheduled_job_does_not_wait_for_a_processor(http, app, project, job_id):
    """It waits for its scheduled time."""
    app.state.dependencies.job_types._started_at -= 100
    await app.state.dependencies.job_types.processors()
    project(JobScheduled, SUBMITTED, queue="gpu", run_at=now() + timedelta(days=1))
    assert None is (await http.get(f"/v1/jobs/{job_id}")).json()["waiting"]


async def test_jobs_are_counted_by_status(http, view, project):
    """Every status is listed; 400 for a filter, and 503 while Redis is away."""
    project(JobSucceeded, ENDED)
    answer = await http.get("/v1/jobs/counts")
    assert {status: int(status == "succeeded") for status in Status} == answer.json()
    problem(await http.get("/v1/jobs/counts?tag=nightly"), 400, "malformed-request")
    view.away = True
    problem(await http.get("/v1/jobs/counts"), 503, "status-unavailable")


async def test_queues_show_their_depth_and_their_processors(http, broker):
    """The queues of every job type and of every processor."""
    items = {queue["name"]: queue for queue in (await http.get("/v1/queues")).json()["items"]}
    assert {"default", "cpu"} <= set(items)
    assert (0, 1, 1, HEARTBEAT.threads) == tuple(
        items[HEARTBEAT.queues[0]][name] for name in ("ready", "consumers", "live_processors", "threads")
    )
    broker.error = RuntimeError
    problem(await http.get("/v1/queues"), 503, "status-unavailable")


@pytest.fixture
def jobs(view, keyring):
    """Ten jobs, a minute apart, newest first; every second one has a tag, every third one is on another queue."""
    made = []
    for number in range(10):
        created = SUBMITTED.created_at - timedelta(minutes=number)
        tags = ("nightly",) if number % 2 == 0 else ()
        changes = {"id": keyring.issue("default"), "created_at": created, "tags": tags}
        job = SUBMITTED.model_copy(update=changes | {"queue": "cpu" if number % 3 == 0 else "default"})
        view.project(JobSubmitted(job=job))
        made.append(job)
    return made


async def walk(http, query):
    """Return the ids of all pages."""
    ids, url = [], f"/v1/jobs?{query}"
    while url:
        page = (await http.get(url)).json()
        ids += [item["id"] for item in page["items"]]
        url = page["next"]
    return ids


@pytest.mark.parametrize("limit", [1, 3, 200])
@pytest.mark.parametrize(
    "query, numbers",
    [
        ("", range(10)),
        ("tag=nightly", [0, 2, 4, 6, 8]),
        ("queue=cpu", [0, 3, 6, 9]),
        ("queue=cpu&tag=nightly", [0, 6]),
        ("tag=other", []),
        ("status=queued&type=digest-files", range(10)),
        ("status=running", []),
    ],
)
async def test_a_listing_applies_its_filters_newest_first(http, jobs, query, numbers, limit, monkeypatch):
    """With any page size; ordered by creation time, not by id."""
    monkeypatch.setattr("milepost_gateway.core.status.SCAN_SIZE", 4)
    monkeypatch.setattr("milepost_gateway.core.status.MAX_READS", 2)
    assert [jobs[number].id for number in numbers] == await walk(http, f"{query}&limit={limit}")


async def test_created_after_is_exclusive(http, jobs):
    """A job created at that very time is not listed."""
    after = jobs[4].created_at.isoformat().replace("+", "%2B")
    assert [job.id for job in jobs[:4]] == await walk(http, f"created_after={after}&limit=3")


@pytest.mark.parametrize(
    "query", ["created_after=yesterday", "created_after=0", "created_after=2026-01-01T00:00:00", "tag=", "queue=A"]
)
async def test_an_invalid_filter_is_malformed(http, query):
    """400 that names the parameter; a time needs a time zone."""
    detail = problem(await http.get(f"/v1/jobs?{query}"), 400, "malformed-request")["detail"]
    assert detail.startswith(f"query.{query.partition('=')[0]}: ")
    assert "Value error" not in detail
