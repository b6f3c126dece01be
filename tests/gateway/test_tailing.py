"""All jobs with a tag in one stream: those there are, those that come, and those that changed while nobody listened."""

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.access import Access, Scope, create_key
from milepost_contracts.events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded
from milepost_contracts.ids import claimed_time
from milepost_gateway import tailing as module
from milepost_gateway.tailing import Tailing, read_horizon

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ticks(moment):
    return int(moment.timestamp() * 1000)


@pytest.fixture
def issue(keyring):
    """Issue ids of jobs that were created so many seconds after the first one."""
    return lambda after=0: keyring.issue("default", at=NOW + timedelta(seconds=after))


@pytest.fixture
def say(store):
    """Say that something happened to a job with the tag, so many seconds after the first one's creation."""

    def tell(job_id, kind, job, at, tag="nightly", tenant="default"):
        store.time = ticks(NOW + timedelta(seconds=at))
        version = store.time - ticks(claimed_time(job_id))
        changed = job.model_copy(update={"id": job_id, "tags": (tag,), "tenant": tenant})
        store.project(kind(job=changed), version)

    return tell


@pytest.fixture
def tail(store, monkeypatch):
    """Follow a tag, and return the next steps that there are: of each its cursor, its name and its job."""

    async def following(since=0, tag="nightly"):
        steps = Tailing(store=store, changes=store).steps(tag, tenant="default", since=since)

        async def some():
            async for found in steps:
                if found:
                    return [(int(one.cursor), one.event.name, subject(one)) for one in found]
            return []

        return steps, some

    return following


def subject(step):
    return json.loads(step.event.body).get("subject")


async def test_first_comes_a_snapshot_of_those_that_live(tail, issue, say):
    """Of this tenant and with this tag; what has ended is over."""
    live, ended = issue(), issue()
    say(live, JobStarted, RUNNING, 1)
    say(ended, JobSucceeded, ENDED, 2)
    say(issue(), JobStarted, RUNNING, 2, tag="other")
    say(issue(), JobStarted, RUNNING, 2, tenant="other")
    steps, some = await tail()
    async with aclosing(steps):
        assert [("snapshot", live)] == [(name, job) for _, name, job in await some()]


async def test_jobs_that_come_later_come_by_themselves(tail, issue, say, store):
    """With every step that they have taken, not a snapshot alone."""
    old, new = issue(), issue(10)
    say(old, JobSubmitted, SUBMITTED, 1)
    steps, some = await tail()
    async with aclosing(steps):
        await some()
        say(new, JobSubmitted, SUBMITTED, 11)
        say(new, JobStarted, RUNNING, 12)
        say(old, JobSucceeded, ENDED, 13)
        told = await some()
        assert {("submitted", new), ("started", new), ("succeeded", old)} == {(name, job) for _, name, job in told}
        say(new, JobSucceeded, ENDED, 14)
        assert [("succeeded", new)] == [(name, job) for _, name, job in await some()]


async def test_who_comes_back_misses_nothing(tail, issue, say, store, monkeypatch):
    """Neither of the jobs they know, nor of those that came and went meanwhile."""
    old, came_and_went, silent = issue(), issue(20), issue()
    say(silent, JobSubmitted, SUBMITTED, 1)
    say(old, JobStarted, RUNNING, 2)
    store.time = ticks(NOW + timedelta(seconds=10))
    steps, some = await tail()
    async with aclosing(steps):
        cursor = (await some())[-1][0]
    assert ticks(NOW + timedelta(seconds=10)) == cursor
    say(old, JobSucceeded, ENDED, 21)
    say(came_and_went, JobSubmitted, SUBMITTED, 22)
    say(came_and_went, JobSucceeded, ENDED, 23)
    steps, some = await tail(cursor)
    async with aclosing(steps):
        told = {(name, job) for _, name, job in await some()}
    assert {("succeeded", old), ("submitted", came_and_went), ("succeeded", came_and_went)} == told


async def test_a_change_that_nobody_heard_of_is_found(tail, issue, say, store, monkeypatch):
    """What is heard is a hint; once in a while all is looked at."""
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=20))
    job_id = issue()
    say(job_id, JobSubmitted, SUBMITTED, 1)
    steps, some = await tail()
    async with aclosing(steps):
        await some()
        store.listeners, kept = [], store.listeners
        say(job_id, JobStarted, RUNNING, 2)
        store.listeners = kept
        assert [("started", job_id)] == [(name, job) for _, name, job in await some()]


async def test_nothing_is_told_twice_to_who_stays(tail, issue, say, store, monkeypatch):
    """However often it is heard, and looked at."""
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=1))
    job_id = issue()
    say(job_id, JobSubmitted, SUBMITTED, 1)
    steps, some = await tail()
    async with aclosing(steps):
        told = await some()
        for at in range(2, 12):
            say(job_id, JobProgressed, RUNNING, at)
            told += await some()
            for listener in store.listeners:
                listener.tell(job_id)
        say(job_id, JobSucceeded, ENDED, 12)
        told += await some()
    assert ["snapshot", *["progressed"] * 10, "succeeded"] == [name for _, name, _ in told]


async def test_while_redis_is_away_nothing_is_lost(tail, issue, say, store, monkeypatch):
    """It is told afterwards."""
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=10))
    job_id = issue()
    say(job_id, JobSubmitted, SUBMITTED, 1)
    steps, some = await tail()
    async with aclosing(steps):
        await some()
        store.away = True
        say(job_id, JobStarted, RUNNING, 2)
        later = asyncio.create_task(some())
        await asyncio.sleep(0)
        store.away = False
        assert [("started", job_id)] == [(name, job) for _, name, job in await later]


async def test_a_gap_is_told(tail, issue, say, store):
    """Steps of a job that are no longer kept, and more jobs than are looked at."""
    job_id = issue()
    say(job_id, JobStarted, RUNNING, 30)
    store.forgotten[job_id] = 40_000
    steps, some = await tail(ticks(NOW + timedelta(seconds=10)))
    async with aclosing(steps):
        assert ["gap", "snapshot"] == [name for _, name, _ in await some()]


@pytest.mark.parametrize("last", ["garbage", "9" * 15, "-1", "1e3", "٤", "3.0"])
async def test_an_event_id_that_is_none_gets_a_snapshot(tail, issue, say, last):
    """Garbage, or one from the future."""
    job_id = issue()
    say(job_id, JobStarted, RUNNING, 1)
    steps, some = await tail(read_horizon(last))
    async with aclosing(steps):
        assert [("snapshot", job_id)] == [(name, job) for _, name, job in await some()]


async def test_jobs_or_a_tag_and_not_both(http, issue):
    """Nor neither, nor a tag that there can't be."""
    problem(await http.get("/v1/events"), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"tag": "t", "job": issue()}), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"tag": ""}), 400, "malformed-request")
    problem(await http.post("/v1/events/stream-token"), 400, "malformed-request")
    told = problem(await http.get("/v1/events", params={"tags": "t"}), 400, "malformed-request")
    assert "job, last_event_id, tag, token" in told["detail"]


async def test_a_stream_token_of_a_tag_opens_that_tag_alone(http, app, rules):
    """Not another one, and no job."""
    text, entry = create_key("acme", frozenset({Scope.READ}))
    rules.access = Access().with_key(entry)
    object.__setattr__(app.state.services.access, "open", False)
    app.state.closing.set()
    issued = await http.post(
        "/v1/events/stream-token", params={"tag": "nightly"}, headers={"Authorization": f"Bearer {text}"}
    )
    token = issued.json()["token"]
    assert 200 == (await http.get("/v1/events", params={"tag": "nightly", "token": token})).status_code
    for other in ({"tag": "other"}, {"job": "#nightly"}, [("tag", "nightly"), ("tag", "other")]):
        params = [*(other.items() if isinstance(other, dict) else other), ("token", token)]
        assert (await http.get("/v1/events", params=params)).status_code in (401, 404), other
