"""The event stream of a job, as SSE and as NDJSON."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.messages.job_events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded

SSE = {"Accept": "text/event-stream"}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def project(view, job_id):
    """Return a function that projects an event of the job."""

    def publish(kind, job, version):
        view.project(kind(job=job.model_copy(update={"id": job_id})), version)

    return publish


async def once_a_reader_listens(view, *actions):
    await view.listened.wait()
    for action in actions:
        await asyncio.sleep(0)
        action()


def read(text):
    """Return id, name and data of each event, as the HTML standard reads them."""
    events = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


async def test_a_stream_sends_a_snapshot_and_every_event_until_the_end(http, view, project, job_id):
    """It closes when the job has ended."""
    project(JobSubmitted, SUBMITTED, 3)
    request = http.get(f"/v1/jobs/{job_id}/events", headers=SSE)
    changes = once_a_reader_listens(
        view,
        lambda: project(JobStarted, RUNNING, 4),
        lambda: project(JobProgressed, RUNNING, 5),
        lambda: project(JobSucceeded, ENDED, 6),
    )
    answer, _ = await asyncio.gather(request, changes)
    assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    events = [(version, name) for version, name, _ in read(answer.text)]
    assert [(3, "snapshot"), (4, "started"), (5, "progressed"), (6, "succeeded")] == events
    assert answer.text.startswith("retry: 1000\nid: 3\n")
    assert [] == view.listeners


async def test_the_data_are_cloud_events(http, project, job_id):
    """SSE and NDJSON carry the same event."""
    project(JobSucceeded, ENDED, 6)
    ((_, _, event),) = read((await http.get(f"/v1/jobs/{job_id}/events", headers=SSE)).text)
    assert ("1.0", "dev.milepost.job.succeeded.v1", job_id) == (event["specversion"], event["type"], event["subject"])
    lines = (await http.get(f"/v1/jobs/{job_id}/events", headers=NDJSON)).text.splitlines()
    assert [event] == [json.loads(line) for line in lines]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_reader_resumes_after_its_last_event(http, project, job_id, how):
    """By header or query parameter; without a snapshot, as nothing is missing."""
    project(JobSubmitted, SUBMITTED, 3)
    project(JobStarted, RUNNING, 4)
    project(JobSucceeded, ENDED, 6)
    arguments = {"headers": SSE | {"Last-Event-ID": "3"}} if how == "header" else {"params": {"last_event_id": "3"}}
    answer = await http.get(f"/v1/jobs/{job_id}/events", **arguments)
    assert [(4, "started"), (6, "succeeded")] == [(version, name) for version, name, _ in read(answer.text)]


async def test_a_reader_that_missed_expired_events_gets_a_gap(http, view, project, job_id):
    """And a snapshot of the current state."""
    project(JobSubmitted, SUBMITTED, 3)
    project(JobSucceeded, ENDED, 6)
    view.history_from[job_id] = 5
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "3"})
    assert [(3, "gap"), (6, "snapshot")] == [(version, name) for version, name, _ in read(answer.text)]
    lines = (await http.get(f"/v1/jobs/{job_id}/events", headers=NDJSON | {"Last-Event-ID": "3"})).text.splitlines()
    assert 1 == len(lines), "NDJSON has no gap, as it is no CloudEvent"


@pytest.mark.parametrize("last", ["garbage", "99", "-1", "1e3", "9" * 400, "\u0664", "3.0"])
async def test_an_invalid_last_event_id_gets_a_snapshot(http, project, job_id, last):
    """It is malformed, or higher than the version of the job."""
    project(JobSucceeded, ENDED, 6)
    answer = await http.get(f"/v1/jobs/{job_id}/events", params={"last_event_id": last})
    assert [(6, "snapshot")] == [(version, name) for version, name, _ in read(answer.text)]


async def test_a_reader_that_has_the_last_event_gets_204(http, project, job_id):
    """204 stops an EventSource from reconnecting."""
    project(JobSucceeded, ENDED, 6)
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "6"})
    assert (204, b"") == (answer.status_code, answer.content)


async def test_a_cancel_after_the_end_does_not_change_the_204(http, view, project, job_id):
    """It raises the version, but adds no event."""
    project(JobSucceeded, ENDED, 6)
    view.documents[job_id] = replace(view.documents[job_id], version=7)
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "6"})
    assert 204 == answer.status_code


async def test_a_gap_does_not_advance_the_last_event_id(http, view, project, job_id):
    """A reader that loses its connection between gap and snapshot gets both again."""
    project(JobSubmitted, SUBMITTED, 3)
    project(JobSucceeded, ENDED, 6)
    view.history_from[job_id] = 5
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "3"})
    assert ["3", "6"] == [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]


async def test_a_stream_of_an_unseen_job_waits_for_its_first_event(http, view, project, job_id):
    """The id proves that the job was issued."""
    request = http.get(f"/v1/jobs/{job_id}/events", headers=SSE)
    answer, _ = await asyncio.gather(request, once_a_reader_listens(view, lambda: project(JobSucceeded, ENDED, 6)))
    assert [(6, "snapshot")] == [(version, name) for version, name, _ in read(answer.text)]


async def test_a_submission_can_return_the_event_stream(http, view, broker):
    """With Location, so that the client can resume if the connection breaks."""

    async def run_job():
        await view.listened.wait()
        (command,) = broker.submitted
        view.project(JobSucceeded(job=ENDED.model_copy(update={"id": command.job.id})), 9)

    answer, _ = await asyncio.gather(http.post("/v1/jobs", json={"type": "count"}, headers=SSE), run_job())
    assert 200 == answer.status_code
    assert answer.headers["location"].endswith(broker.submitted[0].job.id)
    assert ["snapshot"] == [name for _, name, _ in read(answer.text)]


async def test_an_idle_stream_sends_keep_alive_comments(http, project, job_id, monkeypatch):
    """Without a blank line, which some readers take for the end of an event."""
    monkeypatch.setattr("milepost_gateway.api.routes.streams.KEEP_ALIVE_INTERVAL", 0.0)
    monkeypatch.setattr("milepost_gateway.core.job_stream.READ_INTERVAL", timedelta(0))
    project(JobStarted, RUNNING, 4)

    async def end_later():
        for _ in range(50):
            await asyncio.sleep(0)
        project(JobSucceeded, ENDED, 6)

    answer, _ = await asyncio.gather(http.get(f"/v1/jobs/{job_id}/events", headers=SSE), end_later())
    assert ": ka\n" in answer.text
    assert ": ka\n\n" not in answer.text
    assert ["snapshot", "succeeded"] == [name for _, name, _ in read(answer.text)]


async def test_a_gateway_that_stops_ends_its_streams(http, app, project, job_id, monkeypatch):
    """The readers reconnect to another gateway and resume."""
    monkeypatch.setattr("milepost_gateway.core.job_stream.READ_INTERVAL", timedelta(0))
    project(JobStarted, RUNNING, 4)
    app.state.closing.set()
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE)
    assert 200 == answer.status_code


async def test_a_redis_outage_does_not_end_a_stream(http, view, project, job_id, monkeypatch):
    """The stream continues after its last event."""
    monkeypatch.setattr("milepost_gateway.core.job_stream.READ_INTERVAL", timedelta(0))
    project(JobStarted, RUNNING, 4)

    async def redis_outage():
        await view.listened.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        view.away = True
        for _ in range(20):
            await asyncio.sleep(0)
        view.away = False
        project(JobSucceeded, ENDED, 6)

    answer, _ = await asyncio.gather(http.get(f"/v1/jobs/{job_id}/events", headers=SSE), redis_outage())
    assert (6, "succeeded") == read(answer.text)[-1][:2]


@pytest.mark.parametrize("headers", [SSE, NDJSON])
async def test_a_stream_that_can_not_be_opened_is_a_problem(http, view, keyring, headers):
    """404 or 503, before the stream begins."""
    problem(await http.get("/v1/jobs/unknown/events", headers=headers), 404, "unknown-job")
    view.away = True
    problem(await http.get(f"/v1/jobs/{keyring.issue('default')}/events", headers=headers), 503, "status-unavailable")


async def test_one_stream_serves_several_jobs_until_all_have_ended(http, view, keyring):
    """Browsers allow about six connections to a host; one Last-Event-ID resumes the events of all jobs."""
    first, second = keyring.issue("default"), keyring.issue("default")

    def notify(job_id, kind, job, version):
        view.project(kind(job=job.model_copy(update={"id": job_id})), version)

    notify(first, JobStarted, RUNNING, 4)
    notify(second, JobStarted, RUNNING, 5)
    request = http.get("/v1/events", params={"job": [first, second, first]}, headers=SSE)
    changes = once_a_reader_listens(
        view, lambda: notify(second, JobSucceeded, ENDED, 6), lambda: notify(first, JobSucceeded, ENDED, 7)
    )
    answer, _ = await asyncio.gather(request, changes)
    blocks = answer.text.replace("retry: 1000\n", "").split("\n\n")[:-1]
    assert ["id: 4.0", "id: 4.5", "id: 4.6", "id: 7.6"] == [block.split("\n")[0] for block in blocks]
    query = {"params": {"job": [first, second]}}
    answer = await http.get("/v1/events", **query, headers=SSE | {"Last-Event-ID": "4.5"})
    assert ["id: 7.5", "id: 7.6"] == [line for line in answer.text.split("\n") if line.startswith("id")]
    assert 204 == (await http.get("/v1/events", **query, headers=SSE | {"Last-Event-ID": "7.6"})).status_code


async def test_a_stream_of_several_jobs_requires_known_ids(http, project, job_id):
    """404 if one is unknown; 400 for no job and for more than 100."""
    project(JobSucceeded, ENDED, 6)
    problem(await http.get("/v1/events", params={"job": [job_id, "unknown"]}), 404, "unknown-job")
    problem(await http.get("/v1/events"), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"job": [job_id] * 101}), 400, "malformed-request")
