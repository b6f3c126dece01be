"""All jobs with a tag in one stream: those there are, those that come, and those that changed while nobody listened."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from problem_answers import problem
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.access import Access, Scope, create_key
from milepost_contracts.events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded
from milepost_gateway import tailing as module
from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.tailing import Tailing

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ticks(seconds):
    """Milliseconds since 1970, so many seconds after the first job's creation."""
    return int((NOW + timedelta(seconds=seconds)).timestamp() * 1000)


@pytest.fixture
def issue(keyring):
    """Issue ids of jobs."""
    return lambda: keyring.issue("default")


@pytest.fixture
def say(store):
    """Say that something happened to a job with the tag, so many seconds after the first one was created."""
    store.time = ticks(0)

    def tell(job_id, kind, job, at, *, created=0, tag="nightly", tenant="default"):
        store.time = ticks(at)
        changed = job.model_copy(
            update={"id": job_id, "tags": (tag,), "tenant": tenant, "created_at": NOW + timedelta(seconds=created)}
        )
        store.project(kind(job=changed), store.time - ticks(created))

    return tell


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """The index does not lag behind the view, but where a test says so."""
    monkeypatch.setattr(module, "_LATE_BY", 0)


class Reader:
    """Reads a tag's stream, and remembers how far."""

    def __init__(self, store, cursor=None, tag="nightly"):
        self.cursor = cursor
        tailing = Tailing(store=store, changes=store, retention=timedelta(days=7))
        self.steps = tailing.steps(tag, tenant="default", cursor=cursor)

    async def some(self):
        """Return the next events that there are, with their jobs."""
        async for found in self.steps:
            if found:
                self.cursor = found[-1].cursor
                return [(one.event.name, subject(one)) for one in found]
        return []

    async def take(self, count):
        told = []
        while len(told) < count:
            told += await self.some()
        return told


@pytest.fixture
async def follow(store):
    """Follow the tag, and stop in the end."""
    readers = []

    def begin(cursor=None):
        readers.append(Reader(store, cursor))
        return readers[-1]

    yield begin
    for reader in readers:
        await reader.steps.aclose()


def subject(step):
    return json.loads(step.event.body).get("subject")


OPENED = ("opened", None)


async def test_first_comes_a_snapshot_of_those_that_live(follow, issue, say):
    """Of this tenant and with this tag; what has ended is over."""
    live = issue()
    say(live, JobStarted, RUNNING, 1)
    say(issue(), JobSucceeded, ENDED, 2)
    say(issue(), JobStarted, RUNNING, 2, tag="other")
    say(issue(), JobStarted, RUNNING, 2, tenant="other")
    reader = follow()
    assert [OPENED, ("snapshot", live)] == await reader.take(2)
    say(live, JobSucceeded, ENDED, 3)
    assert [("succeeded", live)] == await reader.some()


async def test_jobs_that_come_later_come_by_themselves(follow, issue, say):
    """With every step that they have taken, not a snapshot alone."""
    old, new = issue(), issue()
    say(old, JobSubmitted, SUBMITTED, 1)
    reader = follow()
    await reader.take(2)
    say(new, JobSubmitted, SUBMITTED, 11, created=10)
    say(new, JobStarted, RUNNING, 12, created=10)
    say(old, JobSucceeded, ENDED, 13)
    told = await reader.take(3)
    assert {("submitted", new), ("started", new), ("succeeded", old)} == set(told)
    say(new, JobSucceeded, ENDED, 14, created=10)
    assert [("succeeded", new)] == await reader.some()


async def test_a_job_is_as_old_as_it_says_whatever_its_id_says(follow, keyring, say):
    """With an Idempotency-Key the id is issued at the beginning of the day."""
    reader = follow()
    keyed = keyring.issue("default", at=NOW - timedelta(hours=5), name="a key")
    assert [OPENED] == await reader.some()
    say(keyed, JobStarted, RUNNING, 2, created=1)
    say(keyed, JobSucceeded, ENDED, 3, created=1)
    assert ("succeeded", keyed) == (await reader.take(2))[-1]


async def test_who_comes_back_misses_nothing(follow, issue, say, store):
    """Neither of the jobs they know, nor of those that came and went meanwhile; nor who was told nothing before."""
    old, came_and_went, silent = issue(), issue(), issue()
    say(silent, JobSubmitted, SUBMITTED, 1)
    say(old, JobStarted, RUNNING, 2)
    store.time = ticks(10)
    readers = []
    for count in (3, 1):
        readers.append(follow())
        await readers[-1].take(count)
    say(old, JobSucceeded, ENDED, 21)
    say(came_and_went, JobSubmitted, SUBMITTED, 22, created=20)
    say(came_and_went, JobSucceeded, ENDED, 23, created=20)
    expected = {("succeeded", old), ("submitted", came_and_went), ("succeeded", came_and_went)}
    for reader in readers:
        assert f"t{ticks(10)}" == reader.cursor
        assert expected == set(await follow(reader.cursor).take(3))


async def test_an_index_that_lags_behind_the_view_hides_nothing(follow, issue, say, store, monkeypatch):
    """A job's change is noted after it is in the view; who looks in between is told it all the same, once."""
    monkeypatch.setattr(module, "_LATE_BY", 60_000)
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=5))
    job_id, early = issue(), issue()
    say(early, JobSucceeded, ENDED, 5)
    store.time = ticks(10)
    reader = follow()
    assert [OPENED] == await reader.some()
    say(job_id, JobSucceeded, ENDED, 9, created=8)
    store.time = ticks(12)
    store.changed_at[job_id] = ticks(11)
    told = await reader.some()
    assert [("succeeded", job_id)] == told
    store.time = ticks(13)
    say(early, JobStarted, RUNNING, 14)
    assert ("started", early) in await reader.some()


async def test_however_many_have_changed_each_is_told(follow, issue, say, monkeypatch):
    """Page by page; also when more than a page has changed in one millisecond."""
    monkeypatch.setattr(module, "PAGE", 3)
    reader = follow()
    await reader.some()
    ids = [issue() for _ in range(20)]
    for number, job_id in enumerate(ids):
        say(job_id, JobSucceeded, ENDED, 2 + (number >= 10), created=1)
    assert {("succeeded", job_id) for job_id in ids} == set(await follow(reader.cursor).take(20))


async def test_a_change_that_nobody_heard_of_is_found(follow, issue, say, store, monkeypatch):
    """What is heard is a hint; once in a while all is looked at."""
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=20))
    job_id = issue()
    say(job_id, JobSubmitted, SUBMITTED, 1)
    reader = follow()
    await reader.take(2)
    store.listeners, kept = [], store.listeners
    say(job_id, JobStarted, RUNNING, 2)
    store.listeners = kept
    assert [("started", job_id)] == await reader.some()


async def test_nothing_is_told_twice_to_who_stays(follow, issue, say, store, monkeypatch):
    """However often it is heard, and looked at."""
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=1))
    job_id = issue()
    say(job_id, JobSubmitted, SUBMITTED, 1)
    reader = follow()
    told = await reader.take(2)
    for at in range(2, 12):
        say(job_id, JobProgressed, RUNNING, at)
        told += await reader.some()
        for listener in store.listeners:
            listener.tell(job_id)
    say(job_id, JobSucceeded, ENDED, 12)
    told += await reader.some()
    assert ["opened", "snapshot", *["progressed"] * 10, "succeeded"] == [name for name, _ in told]


async def test_while_redis_is_away_nothing_is_lost(follow, issue, say, store, monkeypatch):
    """Nor when it goes away between two jobs: what was not told is told afterwards, and what was is not again."""
    monkeypatch.setattr(module, "AGAIN_IN", 0.01)
    monkeypatch.setattr(module, "LOOK_EVERY", timedelta(milliseconds=10))
    first, second = sorted((issue(), issue()))
    reader = follow()
    await reader.some()
    look, looked = store.told, []

    async def away_for_the_second(job_id, *args, **more):
        looked.append(job_id)
        if looked.count(second) == 1 and job_id == second:
            raise StoreUnavailable("away")
        return await look(job_id, *args, **more)

    store.told = away_for_the_second
    for job_id in (first, second):
        say(job_id, JobStarted, RUNNING, 2, created=1)
    assert [("started", first), ("started", second)] == await reader.take(2)
    say(first, JobSucceeded, ENDED, 3, created=1)
    assert [("succeeded", first)] == await reader.some()


async def test_a_redis_that_goes_away_at_the_beginning_costs_no_snapshot(follow, issue, say, store, monkeypatch):
    """What could not be read is read afterwards."""
    monkeypatch.setattr(module, "AGAIN_IN", 0.01)
    ids = {issue() for _ in range(3)}
    for job_id in ids:
        say(job_id, JobStarted, RUNNING, 1)
    store.time = ticks(5)
    look, away = store.told, [False, True, False, False]

    async def sometimes_away(*args, **more):
        if away and away.pop(0):
            raise StoreUnavailable("away")
        return await look(*args, **more)

    store.told = sometimes_away
    told = await follow().take(4)
    assert OPENED == told[0]
    assert sorted(("snapshot", job_id) for job_id in ids) == sorted(told[1:])


async def test_a_job_that_was_seen_late_has_no_gap(follow, issue, say, store):
    """It was handed over before somebody listened, and projected after: every step of it is there."""
    job_id = issue()
    store.time = ticks(10)
    reader = follow()
    await reader.some()
    say(job_id, JobSubmitted, SUBMITTED, 11)
    say(job_id, JobStarted, RUNNING, 12)
    store.forgotten[job_id] = 10_999
    assert [("submitted", job_id), ("started", job_id)] == await reader.take(2)


async def test_a_gap_is_told(follow, issue, say, store):
    """Steps of a job that are no longer kept; and a reader who comes back after all of it."""
    job_id = issue()
    say(job_id, JobStarted, RUNNING, 30)
    store.forgotten[job_id] = 40_000
    assert ["gap", "snapshot"] == [name for name, _ in await follow(f"t{ticks(10)}").some()]
    late = follow(f"t{ticks(-8 * 86_400)}")
    assert ["gap", "opened", "snapshot"] == [name for name, _ in await late.take(3)]


@pytest.mark.parametrize("last", ["garbage", "1250", "t" + "9" * 15, "t-1", "t1e3", "t٤", "t3.0", "3.0"])
async def test_an_event_id_that_is_none_gets_a_snapshot(follow, issue, say, last):
    """Garbage, another stream's, or one from the future."""
    job_id = issue()
    say(job_id, JobStarted, RUNNING, 1)
    told = [one for one in await follow(last).take(2) if one[0] != "gap"]
    assert [OPENED, ("snapshot", job_id)][: len(told)] == told


async def test_jobs_or_a_tag_and_not_both(http, issue):
    """Nor neither, nor a tag that there can't be."""
    problem(await http.get("/v1/events"), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"tag": "t", "job": issue()}), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"tag": ""}), 400, "malformed-request")
    problem(await http.post("/v1/events/stream-token"), 400, "malformed-request")
    problem(await http.get("/v1/events", params=[("tag", "a"), ("tag", "b")]), 400, "malformed-request")
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
