"""`milepost-tracker rebuild`: an empty Redis is restored from the log to identical documents."""

import asyncio
import os
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from redis import Redis
from samples import ENDED, RUNNING, SUBMITTED
from trusted import ID_KEYS, KEYRING, own
from waiting import wait_until

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobStarted, JobSubmitted, JobSucceeded, encode_event
from milepost_contracts.messages.topology import Topology
from milepost_contracts.status.redis_keys import SHARDS, Keys
from milepost_rabbit.publisher import RabbitPublisher
from milepost_stack import processes

KEYS, TOPOLOGY = Keys(), Topology()
MAX_IN_FLIGHT = 300


@pytest.fixture(scope="module")
def stack(start_stack):
    """RabbitMQ, Redis and one tracker."""
    made = start_stack("rebuild", trackers=1, settings={"MILEPOST_ID_KEYS": ID_KEYS})
    yield made
    made.down()


@pytest.fixture
def count(request):
    return 100_000 if request.config.getoption("--faults") == "full" else 1_000


@pytest.fixture
def redis(stack):
    with Redis.from_url(stack.state.redis_url) as made:
        yield made


def events_of(number):
    """Yield the events of a job that succeeds; every tenth one is still running."""
    at = now()
    fields = {
        "id": KEYRING.issue("default"),
        "files": (),
        "queue": "nowhere",
        "created_at": at,
        "tags": (f"n{number}",),
    }
    yield JobSubmitted(job=own(SUBMITTED, **fields))
    started = {**fields, "started_at": at, "max_runtime": timedelta(days=1)}
    yield JobStarted(job=own(RUNNING, **started, step=1))
    if number % 10:
        yield JobSucceeded(job=own(ENDED, **started, finished_at=at, result={"n": number}))


async def publish_all(url, count):
    publisher = RabbitPublisher(url, name="test")
    publisher.link.start()
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def publish(event):
        async with slots:
            await publisher.publish(
                TOPOLOGY.jobs, event.routing_key, encode_event(event), correlation_id=event.job.id, within=30
            )

    for begin in range(0, count, 1_000):
        events = [event for number in range(begin, min(begin + 1_000, count)) for event in events_of(number)]
        await asyncio.gather(*(publish(event) for event in events))
    await publisher.link.close()


def jobs_in(redis):
    with redis.pipeline(transaction=False) as pipe:
        for shard in range(SHARDS):
            pipe.zcard(KEYS.index(shard, tenant="*", status="succeeded"))
            pipe.zcard(KEYS.index(shard, tenant="*", status="running"))
        return sum(pipe.execute())


def documents_in(redis):
    """Return the fields of all documents, except versions, deadlines and the history."""
    found = {}
    for key in redis.scan_iter(match=f"{KEYS.namespace}:job:*", count=10_000):
        fields = redis.hgetall(key)
        left_out = {b"version", b"due", b"history", b"history_from"}
        found[key] = {name: fields[name] for name in fields.keys() - left_out if not name.startswith(b"event:")}
    return found


@pytest.mark.timeout(1_200)
def test_a_rebuild_restores_identical_documents(stack, redis, count, capsys):
    """All fields of all documents, and the indexes. It prints the duration."""
    environment = stack.state.environment_of("tracker")
    asyncio.run(publish_all(environment["MILEPOST_RABBITMQ_URL"], count))
    wait_until(lambda: jobs_in(redis) == count, within=600, what="all jobs are in the view")
    ended = count - count // 10
    wait_until(
        lambda: sum(redis.zcard(KEYS.index(s, tenant="*", status="succeeded")) for s in range(SHARDS)) == ended,
        within=600,
        what="all ended jobs are in the view",
    )
    before = documents_in(redis)
    processes.stop(stack.state.process("tracker-1"))
    redis.flushall()
    done = subprocess.run(
        [sys.executable, "-m", "milepost_tracker", "rebuild"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    (line,) = re.findall(r"rebuilt in .*", done.stderr)
    after = documents_in(redis)
    equal = sum(before[key] == after.get(key) for key in before)
    with capsys.disabled():
        print(f"\n{count} jobs {line}; {equal} of {len(before)} documents are equal")
    assert before == after
    assert count == jobs_in(redis)
