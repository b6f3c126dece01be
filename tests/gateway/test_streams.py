"""Events of a job as they happen: SSE and NDJSON."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded

SSE = {"Accept": "text/event-stream"}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def job_id(keyring):
    return keyring.issue("default")


@pytest.fixture
def say(store, job_id):
    """Say that something happened to the job."""

    def tell(kind, job, version):
        store.project(kind(job=job.model_copy(update={"id": job_id})), version)

    return tell


async def once_somebody_listens(store, *acts):
    await store.listened.wait()
    for act in acts:
        await asyncio.sleep(0)
        act()


def read(text):
    """Return id, name and data of each event, as the HTML standard reads them."""
    events = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


async def test_a_stream_tells_a_snapshot_and_every_event_until_the_end(http, store, say, job_id):
    """And ends with the job."""
    say(JobSubmitted, SUBMITTED, 3)
    asked = http.get(f"/v1/jobs/{job_id}/events", headers=SSE)
    happens = once_somebody_listens(
        store,
        lambda: say(JobStarted, RUNNING, 4),
        lambda: say(JobProgressed, RUNNING, 5),
        lambda: say(JobSucceeded, ENDED, 6),
    )
    answer, _ = await asyncio.gather(asked, happens)
    assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    told = [(version, name) for version, name, _ in read(answer.text)]
    assert [(3, "snapshot"), (4, "started"), (5, "progressed"), (6, "succeeded")] == told
    assert answer.text.startswith("retry: 1000\nid: 3\n")
    assert [] == store.listeners


async def test_the_data_are_the_cloud_events_as_they_travel(http, store, say, job_id):
    """The same bytes as at the broker."""
    say(JobSucceeded, ENDED, 6)
    ((_, _, event),) = read((await http.get(f"/v1/jobs/{job_id}/events", headers=SSE)).text)
    assert ("1.0", "dev.milepost.job.succeeded.v1", job_id) == (event["specversion"], event["type"], event["subject"])
    lines = (await http.get(f"/v1/jobs/{job_id}/events", headers=NDJSON)).text.splitlines()
    assert [event] == [json.loads(line) for line in lines]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_reader_resumes_behind_the_event_that_it_has(http, say, job_id, how):
    """Without a snapshot, for nothing is missing."""
    say(JobSubmitted, SUBMITTED, 3)
    say(JobStarted, RUNNING, 4)
    say(JobSucceeded, ENDED, 6)
    given = {"headers": SSE | {"Last-Event-ID": "3"}} if how == "header" else {"params": {"last_event_id": "3"}}
    answer = await http.get(f"/v1/jobs/{job_id}/events", **given)
    assert [(4, "started"), (6, "succeeded")] == [(version, name) for version, name, _ in read(answer.text)]


async def test_a_reader_that_missed_what_is_no_longer_kept_is_told_so(http, store, say, job_id):
    """A gap, and then how it is now."""
    say(JobSubmitted, SUBMITTED, 3)
    say(JobSucceeded, ENDED, 6)
    store.forgotten[job_id] = 5
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "3"})
    assert [(3, "gap"), (6, "snapshot")] == [(version, name) for version, name, _ in read(answer.text)]
    lines = (await http.get(f"/v1/jobs/{job_id}/events", headers=NDJSON | {"Last-Event-ID": "3"})).text.splitlines()
    assert 1 == len(lines), "a gap is no CloudEvent"


@pytest.mark.parametrize("last", ["garbage", "99", "-1", "1e3", "9" * 400, "\u0664", "3.0"])
async def test_an_event_id_that_is_none_of_the_job_gets_a_snapshot(http, say, job_id, last):
    """Garbage, another job's, or one from the future."""
    say(JobSucceeded, ENDED, 6)
    answer = await http.get(f"/v1/jobs/{job_id}/events", params={"last_event_id": last})
    assert [(6, "snapshot")] == [(version, name) for version, name, _ in read(answer.text)]


async def test_who_has_the_end_already_is_asked_not_to_come_back(http, say, job_id):
    """204 stops an EventSource."""
    say(JobSucceeded, ENDED, 6)
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "6"})
    assert (204, b"") == (answer.status_code, answer.content)


async def test_a_cancel_after_the_end_brings_nobody_back(http, store, say, job_id):
    """It raises the version, and there is nothing to tell of it."""
    say(JobSucceeded, ENDED, 6)
    store.documents[job_id] = replace(store.documents[job_id], version=7)
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "6"})
    assert 204 == answer.status_code


async def test_who_is_cut_off_behind_a_gap_is_told_both_again(http, store, say, job_id):
    """The snapshot carries the reader on, not the gap."""
    say(JobSubmitted, SUBMITTED, 3)
    say(JobSucceeded, ENDED, 6)
    store.forgotten[job_id] = 5
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE | {"Last-Event-ID": "3"})
    assert ["3", "6"] == [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]


async def test_a_job_that_no_tracker_has_seen_is_followed_from_its_beginning(http, store, say, job_id):
    """Its id is known: the stream waits."""
    asked = http.get(f"/v1/jobs/{job_id}/events", headers=SSE)
    answer, _ = await asyncio.gather(asked, once_somebody_listens(store, lambda: say(JobSucceeded, ENDED, 6)))
    assert [(6, "snapshot")] == [(version, name) for version, name, _ in read(answer.text)]


async def test_a_job_is_handed_over_and_followed_in_one_request(http, store, broker):
    """With its location, should the connection break."""

    async def runs():
        await store.listened.wait()
        (command,) = broker.submitted
        store.project(JobSucceeded(job=ENDED.model_copy(update={"id": command.job.id})), 9)

    answer, _ = await asyncio.gather(http.post("/v1/jobs", json={"type": "count"}, headers=SSE), runs())
    assert 200 == answer.status_code
    assert answer.headers["location"].endswith(broker.submitted[0].job.id)
    assert ["snapshot"] == [name for _, name, _ in read(answer.text)]


async def test_a_stream_says_now_and_then_that_it_is_there(http, store, say, job_id, monkeypatch):
    """A comment without a blank line: some readers make an event of one."""
    monkeypatch.setattr("milepost_gateway.api.streams.KEEP_ALIVE", 0.0)
    monkeypatch.setattr("milepost_gateway.following.LOOK_EVERY", timedelta(0))
    say(JobStarted, RUNNING, 4)

    async def ends_later():
        for _ in range(50):
            await asyncio.sleep(0)
        say(JobSucceeded, ENDED, 6)

    answer, _ = await asyncio.gather(http.get(f"/v1/jobs/{job_id}/events", headers=SSE), ends_later())
    assert ": ka\n" in answer.text
    assert ": ka\n\n" not in answer.text
    assert ["snapshot", "succeeded"] == [name for _, name, _ in read(answer.text)]


async def test_a_gateway_that_stops_ends_its_streams(http, app, say, job_id, monkeypatch):
    """Their readers come back to another one, and resume."""
    monkeypatch.setattr("milepost_gateway.following.LOOK_EVERY", timedelta(0))
    say(JobStarted, RUNNING, 4)
    app.state.closing.set()
    answer = await http.get(f"/v1/jobs/{job_id}/events", headers=SSE)
    assert 200 == answer.status_code


async def test_redis_away_for_a_while_does_not_end_a_stream(http, store, say, job_id, monkeypatch):
    """It goes on where it was."""
    monkeypatch.setattr("milepost_gateway.following.LOOK_EVERY", timedelta(0))
    say(JobStarted, RUNNING, 4)

    async def goes_away_and_comes_back():
        await store.listened.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        store.away = True
        for _ in range(20):
            await asyncio.sleep(0)
        store.away = False
        say(JobSucceeded, ENDED, 6)

    answer, _ = await asyncio.gather(http.get(f"/v1/jobs/{job_id}/events", headers=SSE), goes_away_and_comes_back())
    assert (6, "succeeded") == read(answer.text)[-1][:2]


@pytest.mark.parametrize("headers", [SSE, NDJSON])
async def test_what_can_not_be_followed_is_a_problem(http, store, keyring, headers):
    """Before the stream begins."""
    problem(await http.get("/v1/jobs/unknown/events", headers=headers), 404, "unknown-job")
    store.away = True
    problem(await http.get(f"/v1/jobs/{keyring.issue('default')}/events", headers=headers), 503, "status-unavailable")


async def test_several_jobs_are_followed_at_once_until_all_have_ended(http, store, keyring):
    """Browsers allow about six connections to a host; the id of an event resumes behind it in all of them."""
    one, other = keyring.issue("default"), keyring.issue("default")

    def tell(job_id, kind, job, version):
        store.project(kind(job=job.model_copy(update={"id": job_id})), version)

    tell(one, JobStarted, RUNNING, 4)
    tell(other, JobStarted, RUNNING, 5)
    asked = http.get("/v1/events", params={"job": [one, other, one]}, headers=SSE)
    happens = once_somebody_listens(
        store, lambda: tell(other, JobSucceeded, ENDED, 6), lambda: tell(one, JobSucceeded, ENDED, 7)
    )
    answer, _ = await asyncio.gather(asked, happens)
    blocks = answer.text.replace("retry: 1000\n", "").split("\n\n")[:-1]
    assert ["id: 4.0", "id: 4.5", "id: 4.6", "id: 7.6"] == [block.split("\n")[0] for block in blocks]
    again = {"params": {"job": [one, other]}}
    answer = await http.get("/v1/events", **again, headers=SSE | {"Last-Event-ID": "4.5"})
    assert ["id: 7.5", "id: 7.6"] == [line for line in answer.text.split("\n") if line.startswith("id")]
    assert 204 == (await http.get("/v1/events", **again, headers=SSE | {"Last-Event-ID": "7.6"})).status_code


async def test_of_several_jobs_each_has_to_be_known(http, say, job_id):
    """And there is an end to how many."""
    say(JobSucceeded, ENDED, 6)
    problem(await http.get("/v1/events", params={"job": [job_id, "unknown"]}), 404, "unknown-job")
    problem(await http.get("/v1/events"), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"job": [job_id] * 101}), 400, "malformed-request")
