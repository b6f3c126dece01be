"""`Prefer: wait`: the response is delayed until the job changes or ends."""

import asyncio
from datetime import timedelta

import pytest
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.messages.job_events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def later(view, job_id):
    """Return a coroutine function that projects an event once a request waits for it."""

    async def project(kind, job, version):
        await view.listened.wait()
        view.project(kind(job=job.model_copy(update={"id": job_id})), version)

    return project


async def concurrently(*coroutines):
    """Run the coroutines concurrently, and return the result of the first."""
    return (await asyncio.gather(*coroutines))[0]


async def test_a_conditional_get_waits_for_a_newer_version(http, view, job_id, later):
    """If-None-Match names the version that the client has; the response comes with the change."""
    view.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    request = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": "wait=20"})
    answer = await concurrently(request, later(JobStarted, RUNNING, 7))
    assert (200, '"7"', "wait=20") == (answer.status_code, answer.headers["etag"], answer.headers["preference-applied"])


async def test_a_get_without_an_etag_waits_for_the_end(http, view, job_id, later):
    """A client without an earlier version wants the result."""
    view.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)

    async def run_job():
        await later(JobStarted, RUNNING, 4)
        await later(JobSucceeded, ENDED, 5)

    answer = await concurrently(http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}), run_job())
    assert "succeeded" == answer.json()["status"]


async def test_a_newer_version_is_returned_at_once(http, view, job_id):
    """The request does not wait for another change."""
    view.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"2"', "Prefer": "wait=20"})
    assert (200, '"3"') == (answer.status_code, answer.headers["etag"])


async def test_a_wait_without_a_change_ends_with_304(http, view, job_id, monkeypatch):
    """The wait is limited, whatever the client asks for."""
    monkeypatch.setattr("milepost_gateway.api.prefer.MAX_WAIT", timedelta(milliseconds=5))
    view.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": "wait=99999"})
    assert (304, b"") == (answer.status_code, answer.content)


@pytest.mark.parametrize(
    "preference", ["wait=abc", "wait=-1", "wait", "respond-async", "wait=", "wait=1e9", "x" * 5000, "wait=0"]
)
async def test_a_preference_without_a_valid_wait_is_ignored(http, view, job_id, preference):
    """RFC 7240: a preference is optional for the server."""
    view.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": preference})
    assert 304 == answer.status_code
    assert "preference-applied" not in answer.headers


async def test_a_submission_can_wait_for_the_end_of_its_job(http, view, broker):
    """200 with the ended job instead of 202."""

    async def run_job():
        await view.listened.wait()
        (command,) = broker.submitted
        view.project(JobSucceeded(job=ENDED.model_copy(update={"id": command.job.id})), 9)

    request = http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "respond-async, wait=20"})
    answer = await concurrently(request, run_job())
    assert (200, "succeeded", "wait=20") == (
        answer.status_code,
        answer.json()["status"],
        answer.headers["preference-applied"],
    )
    assert answer.headers["location"] == answer.headers["content-location"] == answer.headers["operation-location"]


async def test_a_submission_whose_job_does_not_end_in_time_gets_202(http, monkeypatch):
    """As without the preference."""
    monkeypatch.setattr("milepost_gateway.api.prefer.MAX_WAIT", timedelta(milliseconds=5))
    answer = await http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "wait=20"})
    assert (202, "queued") == (answer.status_code, answer.json()["status"])


async def test_a_202_after_a_wait_shows_the_current_state(http, view, broker, monkeypatch):
    """Not the state at the time of acceptance."""
    monkeypatch.setattr("milepost_gateway.api.prefer.MAX_WAIT", timedelta(milliseconds=500))

    async def start_job():
        await view.listened.wait()
        (command,) = broker.submitted
        view.project(JobStarted(job=RUNNING.model_copy(update={"id": command.job.id})), 4)

    answer = await concurrently(
        http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "wait=20"}), start_job()
    )
    assert (202, "running", '"4"') == (answer.status_code, answer.json()["status"], answer.headers["etag"])
    assert "preference-applied" in answer.headers


async def test_a_submission_that_waits_gets_202_while_redis_is_away(http, view):
    """The job is durable without Redis."""
    await http.get("/v1/job-types")
    await http.post("/v1/jobs", json={"type": "count"})
    view.away = True
    answer = await http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "wait=20"})
    assert 202 == answer.status_code


async def test_a_get_of_an_unknown_job_does_not_wait(http):
    """404 at once."""
    answer = await http.get("/v1/jobs/unknown", headers={"Prefer": "wait=20"})
    assert 404 == answer.status_code


async def test_a_wait_for_a_change_ends_with_progress(http, view, job_id, later):
    """Progress raises the version of the document."""
    view.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})), 3)
    request = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": 'W/"3"', "Prefer": "wait=20"})
    answer = await concurrently(request, later(JobProgressed, RUNNING, 4))
    assert '"4"' == answer.headers["etag"]


async def test_a_gateway_that_stops_ends_its_waits(http, app, view, job_id):
    """With the current state; the client repeats the request at another gateway."""
    view.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})), 3)
    app.state.closing.set()
    view.listened.set()
    request = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": "wait=30"})

    async def notify_another_job():
        while not view.listeners:  # noqa: ASYNC110
            await asyncio.sleep(0)
        view.listeners[0].notify("another")

    assert 304 == (await concurrently(request, notify_another_job())).status_code


@pytest.mark.parametrize(
    "accept, media_type",
    [
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream, application/json;q=0.5", "text/event-stream"),
        ("application/x-ndjson;q=0.9, text/event-stream;q=0.1, */*;q=0.01", "application/x-ndjson"),
        ("*/*", "application/json"),
        ("text/event-stream;q=abc", "text/event-stream"),
    ],
)
async def test_the_accept_header_chooses_between_json_and_a_stream(http, view, broker, accept, media_type):
    """RFC 9110: a client gets a stream only if it prefers one to JSON."""
    submit = broker.submit

    async def submit_and_complete(command):
        await submit(command)
        view.project(JobSucceeded(job=ENDED.model_copy(update={"id": command.job.id})), 9)

    broker.submit = submit_and_complete
    answer = await http.post("/v1/jobs", json={"type": "count"}, headers={"Accept": accept})
    assert media_type == answer.headers["content-type"].partition(";")[0]
