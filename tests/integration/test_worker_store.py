"""The tracker's store of announcements, and what a gateway reads from it: the version of a type that applies."""

from datetime import UTC, datetime, timedelta

import pytest

from milepost_contracts.messages.worker_events import (
    Announcement,
    Heartbeat,
    JobType,
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
)
from milepost_gateway.adapters.redis.worker_store import RedisWorkerStore as Reader
from milepost_tracker.adapters.redis.worker_store import RedisWorkerStore

AT = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = (
    JobType(type="report", queue="default", title=title, params_schema={}, result_schema={}).with_version()
    for title in ("Old", "New")
)
LATELY = timedelta(minutes=5)


@pytest.fixture
def workers(redis, keys):
    return RedisWorkerStore(redis, keys)


@pytest.fixture
def reader(redis, keys):
    return Reader(redis, keys)


@pytest.fixture
def announce(workers):
    """Record that a processor announces a version."""

    async def recorded(instance, version, *, started=AT):
        await workers.record(
            ProcessorAnnounced(announcement=Announcement(instance=instance, types=(version,), started_at=started))
        )

    return recorded


@pytest.fixture
async def long_recorded(redis, keys):
    """Announcements have been recorded for years."""
    await redis.set(keys.recorded_since, 0, ex=60)


def state(instance):
    return Heartbeat(instance=instance, started_at=AT, types=("report",), queues=("default",), threads=1, version="1")


async def applies(reader):
    """Return the title of the version that applies."""
    (found,) = await reader.job_types()
    return found.title


async def test_the_newest_version_applies_whichever_was_announced_last(announce, reader):
    """Announcements are repeated: the answer must not change each time."""
    await announce("old", OLD, started=AT)
    await announce("new", NEW, started=AT + timedelta(minutes=1))
    for instance, version in (("old", OLD), ("new", NEW), ("old", OLD)):
        await announce(instance, version, started=AT if version is OLD else AT + timedelta(minutes=1))
        assert "New" == await applies(reader)


async def test_the_newest_version_applies_also_if_it_is_announced_first(announce, reader):
    """As after a loss of Redis: the processors' start times order the versions."""
    await announce("new", NEW, started=AT + timedelta(minutes=1))
    await announce("old", OLD, started=AT)
    assert "New" == await applies(reader)


async def test_an_old_processor_that_restarts_does_not_make_its_version_the_newest(announce, workers, reader):
    """While the deploy goes on, an old one may crash and start again."""
    await announce("old", OLD, started=AT)
    await announce("new", NEW, started=AT + timedelta(minutes=1))
    await workers.record(ProcessorStopped(heartbeat=state("old")))
    await announce("old2", OLD, started=AT + timedelta(minutes=2))
    assert "New" == await applies(reader)


async def test_after_a_rollback_the_old_version_applies_again(announce, workers, reader):
    """As soon as the last processor of the new version has stopped, and an old one announces."""
    await announce("old", OLD, started=AT)
    await announce("new", NEW, started=AT + timedelta(minutes=1))
    await workers.record(ProcessorStopped(heartbeat=state("new")))
    assert "Old" == await applies(reader)


async def test_the_last_version_stays_when_no_processor_is_left(announce, workers, reader):
    """A known type stays submittable while its processors are down."""
    await announce("new", NEW)
    await workers.record(ProcessorStopped(heartbeat=state("new")))
    assert "New" == await applies(reader)


async def test_a_version_that_nobody_has_announced_lately_no_longer_applies(announce, reader, monkeypatch):
    """Its processors were killed and could not say that they stop."""
    monkeypatch.setattr("milepost_tracker.adapters.redis.worker_store.VERSION_LIVE", timedelta(milliseconds=-1))
    await announce("old", OLD, started=AT)
    monkeypatch.undo()
    await announce("new", NEW, started=AT - timedelta(minutes=1))
    assert "Old" == await applies(reader), "announced a moment ago"
    monkeypatch.setattr("milepost_tracker.adapters.redis.worker_store.VERSION_TTL", timedelta(milliseconds=-1))
    await announce("new", NEW, started=AT - timedelta(minutes=1))
    monkeypatch.undo()
    await announce("new", NEW, started=AT - timedelta(minutes=1))
    assert "New" == await applies(reader)


@pytest.mark.usefixtures("long_recorded")
async def test_a_type_announced_by_an_older_release_gets_a_version(announce, workers, reader):
    """Such a processor announces none; its type is accepted as before."""
    await announce("older", OLD.model_copy(update={"version": ""}), started=None)
    (found,) = await reader.job_types()
    assert OLD == found
    assert {OLD.version} == await workers.versions("report", queue="default", within=LATELY)


@pytest.mark.usefixtures("long_recorded")
async def test_the_announced_versions_of_a_queue_are_known(announce, workers):
    """Those of processors that serve other queues do not count."""
    await announce("old", OLD)
    await announce("new", NEW)
    await announce("elsewhere", JobType(type="report", queue="x", title="X", params_schema={}, result_schema={}))
    assert {OLD.version, NEW.version} == await workers.versions("report", queue="default", within=LATELY)
    assert frozenset() == await workers.versions("other", queue="default", within=LATELY)


async def test_versions_are_not_known_until_announcements_were_recorded_for_long_enough(workers, redis, keys):
    """After a loss of Redis, or while no tracker ran, nobody may conclude that a type is not announced."""
    assert await workers.versions("report", queue="default", within=LATELY) is None
    await workers.record(ProcessorHeartbeat(heartbeat=state("new")))
    assert frozenset() == await workers.versions("report", queue="default", within=timedelta(0))
    assert await workers.versions("report", queue="default", within=LATELY) is None
    assert 0 < await redis.ttl(keys.recorded_since) <= 60, "a gap in the records starts it again"


async def test_a_gateway_knows_since_when_types_are_recorded(announce, reader, redis, keys):
    """Only an announcement starts that time, and an empty Redis ends it."""
    assert await reader.types_since() is None
    await announce("new", NEW)
    since = await reader.types_since()
    await announce("new", NEW)
    assert since == await reader.types_since()
    await redis.delete(keys.types_since)
    assert await reader.types_since() is None


GARBAGE = [
    "",
    " ",
    "x",
    "1",
    "1 1",
    "1 1 ",
    "1 1  x default",
    "1 1 a b default",
    "x 1 v default",
    "9" * 400,
    "1 {",
    "\xff",
]


@pytest.mark.usefixtures("long_recorded")
async def test_garbage_that_is_stored_already_affects_no_announcement(announce, workers, reader, redis, keys):
    """An earlier release stored versions with spaces: entries of another form are skipped, and removed."""
    await redis.hset(
        keys.type_versions("report"),
        mapping={f"{kind}:{n}": value for n, value in enumerate(GARBAGE) for kind in "pv"} | {f"v:{NEW.version}": "x"},
    )
    await redis.expire(keys.type_versions("report"), 60)
    assert frozenset() == await workers.versions("report", queue="default", within=LATELY)
    await workers.record(ProcessorStopped(heartbeat=state("old")))
    await announce("new", NEW)
    assert "New" == await applies(reader)
    assert {NEW.version} == await workers.versions("report", queue="default", within=LATELY)
    assert {b"p:new", f"v:{NEW.version}".encode()} == set(await redis.hkeys(keys.type_versions("report")))


async def test_a_stored_type_that_can_not_be_read_is_in_no_queue(workers, redis, keys):
    """It does not hide the queues of others."""
    for name, body in (("a", "{"), ("b", "[]"), ("c", "{}"), ("d", '{"type": "d", "queue": "cpu"}')):
        await redis.set(keys.type(name), body, ex=60)
    assert {"d": "cpu"} == await workers.queues(["a", "b", "c", "d", "e"])
