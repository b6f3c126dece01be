"""Documents that are polled often are served from memory, and never stale."""

import asyncio
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from samples import SUBMITTED
from waiting import wait_until_async

from milepost_contracts.messages.job_events import JobSubmitted
from milepost_gateway.adapters.redis import hot_cache as module
from milepost_gateway.adapters.redis.hot_cache import HOT_READS, HotCache
from milepost_gateway.errors import JobExpired, StoreUnavailable
from milepost_gateway.ports.status_store import StoredDocument

JOB = {"type": "count", "params": {}}
RETENTION = timedelta(days=7)


class View:
    """A status store and a change feed that delivers its notifications only when `all_received` is called."""

    def __init__(self):
        self.versions = {"a": 1, "b": 1}
        self.reads = Counter()
        self.error: Exception | None = None
        self.proofs = 0
        #: Set while reads may finish.
        self.readable = asyncio.Event()
        self.readable.set()
        self._subscribers = defaultdict(set)
        self._under_way: list[str] = []
        self.connection = asyncio.Event()
        self.connection.set()

    def change(self, job_id):
        self.versions[job_id] += 1
        self._under_way.append(job_id)

    def deliver_notifications(self):
        while self._under_way:
            job_id = self._under_way.pop(0)
            for notify in self._subscribers[job_id]:
                notify(job_id)

    def lose_connection(self):
        """Drop all pending notifications, and connect again at once."""
        self.connection.clear()
        self._under_way.clear()
        self.connection = asyncio.Event()
        self.connection.set()

    @property
    def subscribed(self):
        return {job_id for job_id, subscribers in self._subscribers.items() if subscribers}

    async def get(self, job_id):
        if self.error:
            raise self.error
        self.reads[job_id] += 1
        stored = StoredDocument.of(JobSubmitted(job=SUBMITTED), version=self.versions[job_id], retention=RETENTION)
        await self.readable.wait()
        return stored

    def subscribe(self, job_id, notify):
        self._subscribers[job_id].add(notify)
        return self.connection

    def unsubscribe(self, job_id, notify):
        self._subscribers[job_id].discard(notify)

    async def all_received(self):
        self.proofs += 1
        await asyncio.sleep(0)
        self.deliver_notifications()
        return self.connection.is_set()


@pytest.fixture
async def store():
    return View()


@pytest.fixture
async def cache(store, monkeypatch):
    """A cache whose windows do not end during the test."""
    monkeypatch.setattr(module, "WINDOW", 60.0)
    return HotCache(store, store)


@pytest.fixture
async def hot(cache):
    """A cache in which job a is hot."""
    for _ in range(HOT_READS):
        await cache.get("a")
    return cache


async def version(cache, job_id="a"):
    return (await cache.get(job_id)).version


async def begin_read(store, cache):
    """Read job a after a change: the answer, version 2, comes once the store is readable."""
    store.change("a")
    store.deliver_notifications()
    store.readable.clear()
    reading = asyncio.create_task(version(cache))
    await asyncio.sleep(0)
    return reading


async def test_a_hot_job_is_served_from_memory(store, hot):
    """Other jobs are still read from the store."""
    before = store.reads["a"]
    assert {1} == {await version(hot) for _ in range(50)}
    assert before == store.reads["a"]
    await hot.get("b")
    await hot.get("b")
    assert 2 == store.reads["b"]


async def test_a_job_that_is_read_rarely_is_read_from_the_store(store, cache):
    """A subscription would cost more than the reads."""
    for _ in range(3 * HOT_READS):
        await cache.get("a")
        cache.begin_window()
    assert (3 * HOT_READS, set()) == (store.reads["a"], store.subscribed)


async def test_a_change_whose_notification_is_pending_is_seen(store, hot):
    """Another gateway may have served the new version already."""
    store.change("a")
    assert 2 == await version(hot)


async def test_a_notification_drops_the_cached_document(store, hot):
    """And the next read is cached again."""
    store.change("a")
    store.deliver_notifications()
    assert 2 == await version(hot)
    reads = store.reads["a"]
    assert 2 == await version(hot)
    assert reads == store.reads["a"]


async def test_a_document_that_changed_while_it_was_read_is_not_cached(store, hot):
    """It is outdated when it arrives."""
    reading = await begin_read(store, hot)
    store.change("a")
    store.deliver_notifications()
    store.readable.set()
    assert 2 == await reading
    assert 3 == await version(hot)


async def test_a_lost_connection_drops_the_cached_document(store, hot):
    """Notifications may be lost; and nothing that is read without a subscription is cached."""
    store.change("a")
    store.lose_connection()
    assert 2 == await version(hot)
    store.change("a")
    assert 3 == await version(hot)


async def test_a_read_across_two_windows_is_not_cached(store, hot):
    """It could be served for longer than one window."""
    reading = await begin_read(store, hot)
    hot.begin_window()
    store.versions["a"] = 3  # and no notification
    store.readable.set()
    assert 2 == await reading
    assert 3 == await version(hot)


async def test_a_read_across_a_lost_connection_is_not_cached(store, hot):
    """The notification of the change in between was lost."""
    reading = await begin_read(store, hot)
    store.change("a")
    store.lose_connection()
    store.readable.set()
    assert 2 == await reading
    assert 3 == await version(hot)


async def test_a_new_connection_is_used_in_the_next_window(store, hot):
    """After a lost connection, reads go to the store only until then."""
    store.lose_connection()
    hot.begin_window()
    for _ in range(HOT_READS + 1):
        await hot.get("a")
    reads = store.reads["a"]
    assert 1 == await version(hot)
    assert reads == store.reads["a"]


async def test_a_hot_job_is_read_once_in_each_window(store, hot):
    """So nothing older than a window is served, and no expired job, even if notifications are lost."""
    reads = store.reads["a"]
    hot.begin_window()
    store.versions["a"] = 5  # and no notification
    assert 5 == await version(hot)
    assert 5 == await version(hot)
    assert reads + 1 == store.reads["a"]


async def test_a_job_that_is_not_polled_any_more_is_dropped(store, cache, monkeypatch):
    """And unsubscribed, as a window ends by itself."""
    monkeypatch.setattr(module, "WINDOW", 0.05)
    for _ in range(HOT_READS):
        await cache.get("a")
    assert {"a"} == store.subscribed

    async def dropped():
        return not store.subscribed

    await wait_until_async(dropped, within=5, what="the subscription of the job is removed")


@pytest.mark.parametrize("error", [JobExpired(), StoreUnavailable("away")], ids=["expired", "away"])
async def test_an_error_is_raised_and_not_cached(store, hot, error):
    """As the store raises it."""
    store.change("a")
    store.deliver_notifications()
    store.error = error
    with pytest.raises(type(error)):
        await hot.get("a")
    store.error = None
    assert 2 == await version(hot)


async def test_repeated_polls_see_each_change(http, view, broker):
    """Through the route: 304 for as long as nothing changes, and the document once something has."""
    await http.post("/v1/jobs", json=JOB)
    command = broker.submitted[0]
    path, statuses = f"/v1/jobs/{command.job.id}", list[int]()
    for at in (7, 8, 9):
        view.project(command, version=at)
        tag = (await http.get(path)).headers["etag"]
        assert f'"{at}"' == tag
        statuses += [(await http.get(path, headers={"If-None-Match": tag})).status_code for _ in range(HOT_READS)]
    assert {304} == set(statuses)
    assert view.subscribers[command.job.id]
