"""The stream of all jobs with a tag: live jobs, new jobs, and changes while no reader was connected."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from gateway_fakes.change_feed import FakeChangeFeed
from gateway_fakes.job_index import FakeJobIndex
from gateway_fakes.status_store import FakeStatusStore
from problem_answers import problem
from samples import ENDED, RUNNING, SUBMITTED

from milepost_contracts.http.access import Access, Scope, create_key
from milepost_contracts.messages.job_events import JobProgressed, JobStarted, JobSubmitted, JobSucceeded
from milepost_gateway.core import tag_stream as module
from milepost_gateway.core.tag_stream import TagStream
from milepost_gateway.errors import StoreUnavailable

NOW = datetime(2026, 1, 2, tzinfo=UTC)
INDEX_DELAY = module.INDEX_DELAY


def ticks(seconds):
    """Return the milliseconds since 1970, so many seconds after `NOW`."""
    return int((NOW + timedelta(seconds=seconds)).timestamp() * 1000)


@pytest.fixture
def issue(keyring):
    """Issue ids of jobs."""
    return lambda: keyring.issue("default")


@pytest.fixture
def project(view):
    """Return a function that projects an event of a job with the tag, so many seconds after `NOW`."""
    view.time = ticks(0)

    def publish(job_id, kind, job, at, *, created=0, tag="nightly", tenant="default"):
        view.time = ticks(at)
        changed = job.model_copy(
            update={"id": job_id, "tags": (tag,), "tenant": tenant, "created_at": NOW + timedelta(seconds=created)}
        )
        view.project(kind(job=changed), view.time - ticks(created))

    return publish


@pytest.fixture(autouse=True)
def _no_index_delay(monkeypatch):
    """The index has no delay, unless a test sets one."""
    monkeypatch.setattr(module, "INDEX_DELAY", timedelta(0))


class Reader:
    """Reads a tag stream, and keeps its cursor."""

    def __init__(self, view, cursor=None, tag="nightly"):
        self.cursor = cursor
        tag_stream = TagStream(
            store=FakeStatusStore(view),
            index=FakeJobIndex(view),
            change_feed=FakeChangeFeed(view),
            retention=timedelta(days=7),
        )
        self.batches = tag_stream.events(tag, tenant="default", cursor=cursor)

    async def next_events(self):
        """Return the next events that are available, with their jobs."""
        async with asyncio.timeout(10):
            async for batch in self.batches:
                if batch:
                    self.cursor = batch[-1].cursor
                    return [(item.event.name, subject(item)) for item in batch]
        return []

    async def take(self, count):
        events = []
        while len(events) < count:
            events += await self.next_events()
        return events


@pytest.fixture
async def open_stream(view):
    """Return a function that opens the tag stream; close all readers at the end."""
    readers = []

    def open_reader(cursor=None):
        readers.append(Reader(view, cursor))
        return readers[-1]

    yield open_reader
    for reader in readers:
        await reader.batches.aclose()


def subject(item):
    return json.loads(item.event.body).get("subject")


OPENED = ("opened", None)


async def test_a_new_reader_gets_a_snapshot_of_each_live_job(open_stream, issue, project):
    """Of its tenant and with its tag; ended jobs are left out."""
    live = issue()
    project(live, JobStarted, RUNNING, 1)
    project(issue(), JobSucceeded, ENDED, 2)
    project(issue(), JobStarted, RUNNING, 2, tag="other")
    project(issue(), JobStarted, RUNNING, 2, tenant="other")
    reader = open_stream()
    assert [OPENED, ("snapshot", live)] == await reader.take(2)
    project(live, JobSucceeded, ENDED, 3)
    assert [("succeeded", live)] == await reader.next_events()


async def test_a_new_reader_gets_a_live_job_that_has_not_changed_for_long(open_stream, issue, project, monkeypatch):
    """However many others have changed and ended meanwhile."""
    monkeypatch.setattr(module, "MAX_SNAPSHOTS", 2)
    live = issue()
    project(live, JobStarted, RUNNING, 1)
    for at in range(2, 6):
        project(issue(), JobSucceeded, ENDED, at)
    assert [OPENED, ("snapshot", live)] == await open_stream().take(2)


async def test_new_jobs_appear_in_an_open_stream(open_stream, issue, project):
    """With all of their events, not with a snapshot alone."""
    old, new = issue(), issue()
    project(old, JobSubmitted, SUBMITTED, 1)
    reader = open_stream()
    await reader.take(2)
    project(new, JobSubmitted, SUBMITTED, 11, created=10)
    project(new, JobStarted, RUNNING, 12, created=10)
    project(old, JobSucceeded, ENDED, 13)
    events = await reader.take(3)
    assert {("submitted", new), ("started", new), ("succeeded", old)} == set(events)
    project(new, JobSucceeded, ENDED, 14, created=10)
    assert [("succeeded", new)] == await reader.next_events()


async def test_the_creation_time_of_a_job_counts_and_not_the_time_in_its_id(open_stream, keyring, project):
    """With an Idempotency-Key the id has the time of the beginning of the day."""
    reader = open_stream()
    keyed = keyring.issue("default", at=NOW - timedelta(hours=5), name="a key")
    assert [OPENED] == await reader.next_events()
    project(keyed, JobStarted, RUNNING, 2, created=1)
    project(keyed, JobSucceeded, ENDED, 3, created=1)
    assert ("succeeded", keyed) == (await reader.take(2))[-1]


async def test_a_resumed_reader_misses_no_event(open_stream, issue, project, view):
    """Neither of jobs that it knows nor of jobs that began and ended meanwhile; nor if it was sent no job before."""
    old, short, unchanged = issue(), issue(), issue()
    project(unchanged, JobSubmitted, SUBMITTED, 1)
    project(old, JobStarted, RUNNING, 2)
    view.time = ticks(10)
    readers = []
    for count in (3, 1):
        readers.append(open_stream())
        await readers[-1].take(count)
    project(old, JobSucceeded, ENDED, 21)
    project(short, JobSubmitted, SUBMITTED, 22, created=20)
    project(short, JobSucceeded, ENDED, 23, created=20)
    expected = {("succeeded", old), ("submitted", short), ("succeeded", short)}
    for reader in readers:
        assert f"t{ticks(10)}" == reader.cursor
        assert expected == set(await open_stream(reader.cursor).take(3))


async def test_a_delayed_index_hides_no_change(open_stream, issue, project, view, monkeypatch):
    """A job is indexed after it is in the view: a minute later, if its tracker dies in between."""
    monkeypatch.setattr(module, "INDEX_DELAY", INDEX_DELAY)
    monkeypatch.setattr(module, "INDEX_INTERVAL", timedelta(milliseconds=5))
    job_id, early = issue(), issue()
    project(early, JobSucceeded, ENDED, 5)
    view.time = ticks(65)
    reader = open_stream()
    assert [OPENED] == await reader.next_events()
    project(job_id, JobSucceeded, ENDED, 9, created=8)
    view.time = ticks(67)
    view.changed_at[job_id] = ticks(66)
    events = await reader.next_events()
    assert [("succeeded", job_id)] == events
    view.time = ticks(68)
    project(early, JobStarted, RUNNING, 69)
    assert ("started", early) in await reader.next_events()


async def test_every_change_is_sent_across_pages(open_stream, issue, project, monkeypatch):
    """Also when more than a page of jobs has changed in one millisecond."""
    monkeypatch.setattr(module, "PAGE_SIZE", 3)
    reader = open_stream()
    await reader.next_events()
    ids = [issue() for _ in range(20)]
    for number, job_id in enumerate(ids):
        project(job_id, JobSucceeded, ENDED, 2 + (number >= 10), created=1)
    assert {("succeeded", job_id) for job_id in ids} == set(await open_stream(reader.cursor).take(20))


async def test_a_change_without_a_notification_is_found(open_stream, issue, project, view, monkeypatch):
    """Notifications are only hints; the index is read at an interval."""
    monkeypatch.setattr(module, "INDEX_INTERVAL", timedelta(milliseconds=20))
    job_id = issue()
    project(job_id, JobSubmitted, SUBMITTED, 1)
    reader = open_stream()
    await reader.take(2)
    view.listeners, listeners = [], view.listeners
    project(job_id, JobStarted, RUNNING, 2)
    view.listeners = listeners
    assert [("started", job_id)] == await reader.next_events()


async def test_an_open_stream_sends_no_event_twice(open_stream, issue, project, view, monkeypatch):
    """However often there are notifications and reads of the index."""
    monkeypatch.setattr(module, "INDEX_INTERVAL", timedelta(milliseconds=1))
    job_id = issue()
    project(job_id, JobSubmitted, SUBMITTED, 1)
    reader = open_stream()
    events = await reader.take(2)
    for at in range(2, 12):
        project(job_id, JobProgressed, RUNNING, at)
        events += await reader.next_events()
        for listener in view.listeners:
            listener.notify(job_id)
    project(job_id, JobSucceeded, ENDED, 12)
    events += await reader.next_events()
    assert ["opened", "snapshot", *["progressed"] * 10, "succeeded"] == [name for name, _ in events]


async def test_a_redis_outage_loses_and_repeats_no_event(open_stream, issue, project, view, monkeypatch):
    """Even if it begins between two jobs."""
    monkeypatch.setattr(module, "RETRY_AFTER_OUTAGE", 0.01)
    monkeypatch.setattr(module, "INDEX_INTERVAL", timedelta(milliseconds=10))
    first, second = sorted((issue(), issue()))
    reader = open_stream()
    await reader.next_events()
    read_events, read = FakeStatusStore.events, []

    async def fail_once_for_the_second(self, job_id, *args, **more):
        read.append(job_id)
        if read.count(second) == 1 and job_id == second:
            raise StoreUnavailable("away")
        return await read_events(self, job_id, *args, **more)

    monkeypatch.setattr(FakeStatusStore, "events", fail_once_for_the_second)
    for job_id in (first, second):
        project(job_id, JobStarted, RUNNING, 2, created=1)
    assert [("started", first), ("started", second)] == await reader.take(2)
    project(first, JobSucceeded, ENDED, 3, created=1)
    assert [("succeeded", first)] == await reader.next_events()


async def test_a_redis_outage_at_the_beginning_loses_no_snapshot(open_stream, issue, project, view, monkeypatch):
    """A job that could not be read is read later."""
    monkeypatch.setattr(module, "RETRY_AFTER_OUTAGE", 0.01)
    ids = {issue() for _ in range(3)}
    for job_id in ids:
        project(job_id, JobStarted, RUNNING, 1)
    view.time = ticks(5)
    read_events, failures = FakeStatusStore.events, [False, True, False, False]

    async def fail_sometimes(*args, **more):
        if failures and failures.pop(0):
            raise StoreUnavailable("away")
        return await read_events(*args, **more)

    monkeypatch.setattr(FakeStatusStore, "events", fail_sometimes)
    events = await open_stream().take(4)
    assert OPENED == events[0]
    assert sorted(("snapshot", job_id) for job_id in ids) == sorted(events[1:])


async def test_a_job_projected_after_the_stream_opened_has_no_gap(open_stream, issue, project, view):
    """It was submitted before that; all of its events are sent."""
    job_id = issue()
    view.time = ticks(10)
    reader = open_stream()
    await reader.next_events()
    project(job_id, JobSubmitted, SUBMITTED, 11)
    project(job_id, JobStarted, RUNNING, 12)
    view.history_from[job_id] = 10_999
    assert [("submitted", job_id), ("started", job_id)] == await reader.take(2)


async def test_missing_events_are_sent_as_a_gap(open_stream, issue, project, view):
    """For a job whose events have expired, and for a reader that comes back after the retention time."""
    job_id = issue()
    project(job_id, JobStarted, RUNNING, 30)
    view.history_from[job_id] = 40_000
    assert ["gap", "snapshot"] == [name for name, _ in await open_stream(f"t{ticks(10)}").next_events()]
    late = open_stream(f"t{ticks(-8 * 86_400)}")
    assert ["gap", "opened", "snapshot"] == [name for name, _ in await late.take(3)]


@pytest.mark.parametrize("last", ["garbage", "1250", "t" + "9" * 15, "t-1", "t1e3", "t٤", "t3.0", "3.0"])
async def test_an_invalid_event_id_gets_a_snapshot(open_stream, issue, project, last):
    """It is malformed, of another stream, or from the future."""
    job_id = issue()
    project(job_id, JobStarted, RUNNING, 1)
    events = [one for one in await open_stream(last).take(2) if one[0] != "gap"]
    assert [OPENED, ("snapshot", job_id)][: len(events)] == events


async def test_a_stream_requires_either_jobs_or_one_tag(http, issue):
    """400 for both, for neither, for two tags, and for an invalid tag or parameter."""
    problem(await http.get("/v1/events"), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"tag": "t", "job": issue()}), 400, "malformed-request")
    problem(await http.get("/v1/events", params={"tag": ""}), 400, "malformed-request")
    problem(await http.post("/v1/events/stream-token"), 400, "malformed-request")
    problem(await http.get("/v1/events", params=[("tag", "a"), ("tag", "b")]), 400, "malformed-request")
    events = problem(await http.get("/v1/events", params={"tags": "t"}), 400, "malformed-request")
    assert "job, last_event_id, tag, token" in events["detail"]


async def test_a_stream_token_of_a_tag_opens_only_that_tag(http, app, rules):
    """No other tag, and no job."""
    text, entry = create_key("acme", frozenset({Scope.READ}))
    rules.access = Access().with_key(entry)
    object.__setattr__(app.state.dependencies.authentication, "open", False)
    app.state.closing.set()
    issued = await http.post(
        "/v1/events/stream-token", params={"tag": "nightly"}, headers={"Authorization": f"Bearer {text}"}
    )
    token = issued.json()["token"]
    assert 200 == (await http.get("/v1/events", params={"tag": "nightly", "token": token})).status_code
    for other in ({"tag": "other"}, {"job": "#nightly"}, [("tag", "nightly"), ("tag", "other")]):
        params = [*(other.items() if isinstance(other, dict) else other), ("token", token)]
        assert (await http.get("/v1/events", params=params)).status_code in (401, 404), other
