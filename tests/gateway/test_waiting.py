"""`Prefer: wait`: an answer that is held back until there is something to say."""

import asyncio
from datetime import timedelta

import pytest
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def later(store, job_id):
    """Say of the job that something happened, once somebody listens."""

    async def say(kind, job, version):
        await store.listened.wait()
        store.project(kind(job=job.model_copy(update={"id": job_id})), version)

    return say


async def both(*coroutines):
    return (await asyncio.gather(*coroutines))[0]


async def test_a_look_waits_for_what_the_client_does_not_know(http, store, job_id, later):
    """The ETag says what it knows; the answer comes with the change."""
    store.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    asked = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": "wait=20"})
    answer = await both(asked, later(JobStarted, RUNNING, 7))
    assert (200, '"7"', "wait=20") == (answer.status_code, answer.headers["etag"], answer.headers["preference-applied"])


async def test_without_a_version_a_look_waits_for_the_end(http, store, job_id, later):
    """Whoever has nothing to compare with wants the result."""
    store.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)

    async def happens():
        await later(JobStarted, RUNNING, 4)
        await later(JobSucceeded, ENDED, 5)

    answer = await both(http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}), happens())
    assert "succeeded" == answer.json()["status"]


async def test_what_is_new_already_is_answered_at_once(http, store, job_id):
    """Nobody listens for it."""
    store.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"2"', "Prefer": "wait=20"})
    assert (200, '"3"') == (answer.status_code, answer.headers["etag"])


async def test_when_nothing_happens_in_time_nothing_is_new(http, store, job_id, monkeypatch):
    """304, and the client asks again."""
    monkeypatch.setattr("milepost_gateway.api.preferences.LONGEST_WAIT", timedelta(milliseconds=5))
    store.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": "wait=99999"})
    assert (304, b"") == (answer.status_code, answer.content)


@pytest.mark.parametrize(
    "preference", ["wait=abc", "wait=-1", "wait", "respond-async", "wait=", "wait=1e9", "x" * 5000, "wait=0"]
)
async def test_a_preference_that_can_not_be_read_is_ignored(http, store, job_id, preference):
    """RFC 7240: it is a wish."""
    store.project(JobSubmitted(job=SUBMITTED.model_copy(update={"id": job_id})), 3)
    answer = await http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": preference})
    assert 304 == answer.status_code
    assert "preference-applied" not in answer.headers


async def test_a_job_that_ends_soon_is_the_answer_to_its_own_submission(http, store, broker):
    """200 with the whole job instead of 202."""

    async def runs():
        await store.listened.wait()
        (command,) = broker.submitted
        store.project(JobSucceeded(job=ENDED.model_copy(update={"id": command.job.id})), 9)

    asked = http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "respond-async, wait=20"})
    answer = await both(asked, runs())
    assert (200, "succeeded", "wait=20") == (
        answer.status_code,
        answer.json()["status"],
        answer.headers["preference-applied"],
    )
    assert answer.headers["location"] == answer.headers["content-location"] == answer.headers["operation-location"]


async def test_a_job_that_does_not_end_in_time_is_accepted_as_ever(http, monkeypatch):
    """The wish changes nothing of the promise."""
    monkeypatch.setattr("milepost_gateway.api.preferences.LONGEST_WAIT", timedelta(milliseconds=5))
    answer = await http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "wait=20"})
    assert (202, "queued") == (answer.status_code, answer.json()["status"])


async def test_a_job_that_has_begun_meanwhile_is_shown_as_it_is(http, store, broker, monkeypatch):
    """Not as it was when it was accepted: that was true, and is not any more."""
    monkeypatch.setattr("milepost_gateway.api.preferences.LONGEST_WAIT", timedelta(milliseconds=500))

    async def begins():
        await store.listened.wait()
        (command,) = broker.submitted
        store.project(JobStarted(job=RUNNING.model_copy(update={"id": command.job.id})), 4)

    answer = await both(http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "wait=20"}), begins())
    assert (202, "running", '"4"') == (answer.status_code, answer.json()["status"], answer.headers["etag"])
    assert "preference-applied" in answer.headers


async def test_a_job_is_accepted_though_nobody_can_see_how_it_goes_on(http, store):
    """Redis is away: the job is durable all the same."""
    await http.get("/v1/job-types")
    await http.post("/v1/jobs", json={"type": "count"})
    store.away = True
    answer = await http.post("/v1/jobs", json={"type": "count"}, headers={"Prefer": "wait=20"})
    assert 202 == answer.status_code


async def test_an_unknown_job_is_not_waited_for(http):
    """404 at once."""
    answer = await http.get("/v1/jobs/unknown", headers={"Prefer": "wait=20"})
    assert 404 == answer.status_code


async def test_progress_is_a_change_too(http, store, job_id, later):
    """Whoever waits for a change sees the bar move."""
    store.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})), 3)
    asked = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": 'W/"3"', "Prefer": "wait=20"})
    answer = await both(asked, later(JobProgressed, RUNNING, 4))
    assert '"4"' == answer.headers["etag"]


async def test_a_gateway_that_stops_answers_who_waits(http, app, store, job_id):
    """As it is: the client asks another one."""
    store.project(JobStarted(job=RUNNING.model_copy(update={"id": job_id})), 3)
    app.state.closing.set()
    store.listened.set()
    asked = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": '"3"', "Prefer": "wait=30"})

    async def something_else_happens():
        while not store.listeners:  # noqa: ASYNC110
            await asyncio.sleep(0)
        store.listeners[0].tell("another")

    assert 304 == (await both(asked, something_else_happens())).status_code


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
async def test_a_stream_is_for_who_likes_it_best(http, store, broker, accept, media_type):
    """RFC 9110; a generic client that could do with JSON gets JSON."""
    submit = broker.submit

    async def done(command):
        await submit(command)
        store.project(JobSucceeded(job=ENDED.model_copy(update={"id": command.job.id})), 9)

    broker.submit = done
    answer = await http.post("/v1/jobs", json={"type": "count"}, headers={"Accept": accept})
    assert media_type == answer.headers["content-type"].partition(";")[0]
