"""Jobs whose delay is over and that nobody has: they are published to their work queue again."""

from datetime import timedelta

import pytest
from samples import HEARTBEAT, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import JobRetrying, decode_event
from milepost_contracts.states import Status
from milepost_contracts.status.deadlines import report_within
from milepost_tracker.core.redelivery import AGAIN_AFTER, Redelivery
from milepost_tracker.ports.queue_counts import QueueDepths
from milepost_tracker.ports.status_store import KnownJob

LONG_AGO = timedelta(hours=1)
IDLE = HEARTBEAT.model_copy(update={"queues": (SUBMITTED.queue,), "running": (), "held": 0})


def known(status=Status.RETRYING, *, ago=LONG_AGO, waits=timedelta(seconds=1), clock=timedelta(0), **changes):
    """Return a job whose latest event arrived some time ago; the clock of its publisher may be wrong."""
    at = now() - ago + clock
    job = SUBMITTED.model_copy(update={"attempt": 1, "run_at": at + waits, **changes})
    unfinished = KnownJob(job=job, status=status, due=None, cancel_at=None, at=at)
    due = now() - ago + report_within(unfinished.latest_event())
    return KnownJob(job=job, status=status, due=due, cancel_at=None, at=at)


class FakeServers:
    """The unfinished jobs, what processors report, and the broker."""

    def __init__(self, *jobs):
        self.jobs = jobs
        self.claimed = set()
        self.processors = [IDLE]
        self.ready = 0
        self.published = []
        self.at = 0.0

    async def unfinished_jobs(self, shard):
        yield self.jobs

    async def held(self, job_ids):
        return self.claimed & set(job_ids)

    async def heartbeats(self):
        return self.processors

    async def depths(self, queues):
        return QueueDepths(ready=self.ready, delayed=0, dead_lettered=0)

    async def publish(self, message, *, to):
        self.published.append((to, message))

    def redelivery(self):
        return Redelivery(self, self, self, self, self, shards=[0], clock=lambda: self.at)


async def redelivered(servers, *missing):
    redelivery = servers.redelivery()
    return [await redelivery.redeliver(count) for count in missing]


@pytest.mark.parametrize("status", [Status.RETRYING, Status.SCHEDULED, Status.QUEUED])
async def test_a_job_that_waited_and_that_nobody_has_is_published_to_its_work_queue(status):
    """The message is the event that the view has, so the attempt goes on where the last one ended."""
    job = known(status)
    servers = FakeServers(job)
    assert [0, 1] == await redelivered(servers, 1, 1)
    ((to, message),) = servers.published
    event = decode_event(message.body)
    assert ("work", type(job.latest_event()), job.job, job.at) == (to, type(event), event.job, event.time)


@pytest.mark.parametrize("missing", [(0, 0), (-1, -1), (1, 0), (0, 1), (1,)])
async def test_nothing_is_published_unless_jobs_are_missing_twice_in_a_row(missing):
    """A job that moves is counted twice or not at all, so one comparison proves little."""
    servers = FakeServers(known())
    assert not any(await redelivered(servers, *missing))


@pytest.mark.parametrize(
    "how",
    [
        {"ago": timedelta(seconds=1)},
        {"waits": timedelta(hours=2)},
        {"status": Status.QUEUED, "attempt": 0},
        {"status": Status.RUNNING},
        {"quarantined": 4},
        {"queue": "other"},
    ],
    ids=["due just now", "still waiting", "never started", "running", "in quarantine", "another queue"],
)
async def test_a_job_is_left_alone_that_may_be_where_it_belongs(how):
    """A job that no processor ever had is not published again: whoever purges a queue wants it empty."""
    assert [0, 0] == await redelivered(FakeServers(known(**how)), 1, 1)


@pytest.mark.parametrize("clock", [timedelta(minutes=-10), timedelta(minutes=10)])
@pytest.mark.parametrize("waits, expected", [(timedelta(minutes=59, seconds=30), 0), (timedelta(minutes=50), 1)])
async def test_the_clock_of_who_published_the_job_does_not_matter(clock, waits, expected):
    """How long it waits is a difference of two times of one clock."""
    assert [0, expected] == await redelivered(FakeServers(known(waits=waits, clock=clock)), 1, 1)


async def test_a_claimed_job_is_left_alone():
    """Its processor runs it, though no event says so yet."""
    servers = FakeServers(job := known())
    servers.claimed = {job.job.id}
    assert [0, 0] == await redelivered(servers, 1, 1)


@pytest.mark.parametrize(
    "processors, ready",
    [
        ([], 0),
        ([IDLE], 1),
        ([IDLE.model_copy(update={"held": IDLE.threads})], 0),
        ([IDLE, IDLE.model_copy(update={"held": 1})], 0),
    ],
    ids=["no processor", "messages ready", "all busy", "one holds a job that it has not started"],
)
async def test_nothing_is_published_while_the_queue_is_not_idle(processors, ready):
    """The job may wait there for its turn."""
    servers = FakeServers(known())
    servers.processors, servers.ready = processors, ready
    assert [0, 0] == await redelivered(servers, 1, 1)


async def test_a_job_is_published_once_in_ten_minutes():
    """A processor may have put it off."""
    servers = FakeServers(known())
    redelivery = servers.redelivery()
    counts = [await redelivery.redeliver(1) for _ in range(6)]
    servers.at = AGAIN_AFTER.total_seconds() + 1
    counts += [await redelivery.redeliver(1) for _ in range(2)]
    assert [0, 1, 0, 0, 0, 0, 0, 1] == counts


def test_a_retrying_job_goes_to_the_exchange_of_its_work_queue_with_its_own_key():
    """The bits of its delay stay in the key: the binding of the work queue takes them."""
    event = known().latest_event()
    assert isinstance(event, JobRetrying)
    assert event.routing_key.startswith(f"job.retrying.{SUBMITTED.queue}.{SUBMITTED.type}.")
