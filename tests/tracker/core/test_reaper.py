"""The reaper: it ends overdue jobs and canceled jobs that no processor runs."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest
from extreme_events import MOMENTS, TODAY, believed_events, readable
from hypothesis import assume, given, settings
from samples import AT, ENDED, HEARTBEAT, RUNNING, SAMPLES, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    JobCanceled,
    JobEvent,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobQuarantined,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.states import Status
from milepost_contracts.status.deadlines import REPORT_GRACE, report_within, start_by
from milepost_contracts.status.ends import expired
from milepost_contracts.values import LAST_MOMENT, LAST_STEP, JobError
from milepost_tracker.core.reaper import LISTEN_FOR, Reaper
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.status_store import KnownJob

OVERDUE = KnownJob(job=RUNNING, at=AT, status=Status.RUNNING, due=AT, cancel_at=AT)


class FakeStore:
    """A status store, and a worker store."""

    def __init__(self, *known):
        self._known = known
        self.claimed = set()
        self.listed = set()
        self.queues = HEARTBEAT.queues
        self.is_away = False

    async def jobs(self, job_ids):
        return [known for known in self._known if known.job.id in job_ids]

    async def overdue(self):
        if self.is_away:
            raise StoreUnavailable("away")
        return [known.job.id for known in self._known]

    async def held(self, job_ids):
        return self.claimed & set(job_ids)

    async def heartbeats(self):
        running = tuple(HEARTBEAT.running[0].model_copy(update={"id": job_id}) for job_id in self.listed)
        return [HEARTBEAT.model_copy(update={"running": running, "queues": self.queues})]


class FakeClock:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at

    def advance(self, length):
        self.at += length.total_seconds()


def create_reaper(publisher, *known):
    """Return a reaper that has listened for long enough, its store and its clock."""
    store, clock = FakeStore(*known), FakeClock()
    reaper = Reaper(store, store, publisher, clock=clock)
    assert not reaper._has_listened(receiving=True)
    clock.advance(LISTEN_FOR)
    return reaper, store, clock


class FakeEventPublisher:
    def __init__(self):
        self.events = []

    async def publish(self, event):
        self.events.append(event)


@pytest.fixture
def publisher():
    return FakeEventPublisher()


async def test_a_job_without_events_past_its_deadline_is_lost(publisher):
    """It ends `failed`, when the event was due: the start, the time allowed to the attempt, and a grace time."""
    reaper, *_ = create_reaper(publisher, OVERDUE)
    assert 1 == await reaper.end_overdue(receiving=True)
    (event,) = publisher.events
    due = RUNNING.started_at + RUNNING.max_runtime + REPORT_GRACE
    assert ("failed", "lost", due) == (event.status, event.job.error.kind, event.job.finished_at)


async def test_only_success_and_cancel_undo_lost(publisher):
    """`lost` is an inference. Readers never see a failed job run again: a new start, retry or failure stays unseen."""
    reaper, *_ = create_reaper(publisher, OVERDUE)
    await reaper.end_overdue(receiving=True)
    lost = publisher.events[0].sequence
    later = RUNNING.model_copy(update={"delivery": RUNNING.delivery + 1, "execution": "ffffffff", "step": LAST_STEP})
    ended = later.model_copy(update={"finished_at": AT, "error": JobError(kind="exception", message="no")})
    for unseen in (
        JobProgressed(job=RUNNING),
        JobStarted(job=later),
        JobInterrupted(job=later),
        JobRetrying(job=later.model_copy(update={"run_at": AT})),
        JobQuarantined(job=later.model_copy(update={"delivery": 500})),
        JobFailed(job=ended),
    ):
        assert unseen.sequence < lost
    assert lost < JobSucceeded(job=ENDED).sequence
    assert lost < JobCanceled(job=ENDED).sequence
    assert lost < JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2})).sequence


async def test_nothing_is_lost_until_events_have_arrived_for_a_while(publisher):
    """After a start of the tracker, and after the broker or Redis was away: what others know is still on its way."""
    reaper, store, clock = create_reaper(publisher, OVERDUE)
    assert 0 == await reaper.end_overdue(receiving=False)
    assert 0 == await reaper.end_overdue(receiving=True)
    clock.advance(LISTEN_FOR - timedelta(seconds=1))
    assert 0 == await reaper.end_overdue(receiving=True)
    clock.advance(timedelta(seconds=1))
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        await reaper.end_overdue(receiving=True)
    store.is_away = False
    assert 0 == await reaper.end_overdue(receiving=True)
    clock.advance(LISTEN_FOR)
    assert 1 == await reaper.end_overdue(receiving=True)


@pytest.mark.parametrize("known_by", ["claimed", "listed"])
async def test_a_job_that_its_processor_has_is_not_lost(publisher, known_by):
    """It renews the claim or lists the job in its heartbeats: the outcome may wait for the broker."""
    reaper, store, _ = create_reaper(publisher, OVERDUE)
    getattr(store, known_by).add(RUNNING.id)
    assert 0 == await reaper.end_overdue(receiving=True)
    getattr(store, known_by).clear()
    assert 1 == await reaper.end_overdue(receiving=True)


async def test_a_heartbeat_counts_for_jobs_of_its_own_queues_alone(publisher):
    """Otherwise a processor of another queue could keep any job open for good."""
    reaper, store, _ = create_reaper(publisher, OVERDUE)
    store.listed.add(RUNNING.id)
    store.queues = ("another",)
    assert 1 == await reaper.end_overdue(receiving=True)


async def test_jobs_that_are_not_due_are_not_ended(publisher):
    """The view may have changed since the job was listed as overdue."""
    later = KnownJob(job=RUNNING, at=AT, status=Status.RUNNING, due=now() + timedelta(hours=1), cancel_at=None)
    ended = KnownJob(job=ENDED, at=AT, status=Status.SUCCEEDED, due=None, cancel_at=None)
    reaper, *_ = create_reaper(publisher, later, ended)
    assert 0 == await reaper.end_overdue(receiving=True)
    assert [] == publisher.events


async def test_a_canceled_job_that_was_never_started_ends_canceled(publisher):
    """Its end has the time of the cancel request."""
    waiting = KnownJob(job=SUBMITTED, at=AT, status=Status.QUEUED, due=now(), cancel_at=AT)
    reaper, *_ = create_reaper(publisher, waiting)
    await reaper.cancel([SUBMITTED.id])
    (event,) = publisher.events
    assert ("canceled", AT, "before-start") == (event.status, event.job.finished_at, event.job.canceled_how)


@pytest.mark.parametrize("status", [Status.RUNNING, Status.SUCCEEDED, Status.FAILED])
async def test_a_job_that_runs_or_has_ended_is_not_canceled_by_the_tracker(publisher, status):
    """Its processor or a redelivery ends it, and an end stands; the view may have changed since it was listed."""
    job = RUNNING if status is Status.RUNNING else ENDED
    reaper, *_ = create_reaper(publisher, KnownJob(job=job, at=AT, status=status, due=None, cancel_at=AT))
    await reaper.cancel([job.id])
    assert [] == publisher.events


WAITING = KnownJob(job=SUBMITTED, at=AT, status=Status.QUEUED, due=AT, cancel_at=AT)


async def test_several_trackers_publish_identical_events(publisher):
    """Time and id are derived from the view's event, not from when it was stored: equal sequences have equal bytes."""
    for seconds in (0, 7):
        due = AT + timedelta(seconds=seconds)
        reaper, *_ = create_reaper(publisher, replace(OVERDUE, due=due), replace(WAITING, due=due))
        await reaper.end_overdue(receiving=True)
        await reaper.cancel([SUBMITTED.id])
    ends = [encode(event) for event in publisher.events]
    assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]


async def test_the_cancels_of_two_requests_have_different_sequences(publisher):
    """Two trackers may know of different requests; the first request wins, as it does in the view."""
    for seconds in (0, 7):
        reaper, *_ = create_reaper(publisher, replace(WAITING, cancel_at=AT + timedelta(seconds=seconds)))
        await reaper.cancel([SUBMITTED.id])
    first, second = publisher.events
    assert second.sequence < first.sequence
    assert first.event_id != second.event_id


@pytest.mark.parametrize(
    "event", [sample for sample in SAMPLES if isinstance(sample, JOB_EVENTS)], ids=lambda event: event.fact
)
def test_a_deadline_is_never_before_the_time_allowed_to_the_job(event):
    """A running job has its `max_runtime`, a waiting one its `start_within`."""
    length = report_within(event)
    if event.status == "running":
        assert event.time + length >= event.job.started_at + event.job.max_runtime
    elif length is not None:
        assert event.time + length >= (event.job.run_at or event.time) + event.job.start_within


def test_start_within_applies_to_the_first_start_only():
    """A job that was interrupted or quarantined is not lost because it waits longer."""
    changes = {"start_within": timedelta(seconds=1), "attempts": RUNNING.attempts}
    interrupted = JobInterrupted(job=RUNNING.model_copy(update=changes))
    assert report_within(interrupted) > timedelta(days=1)


async def test_a_job_that_was_not_started_in_time_is_expired_and_not_lost(publisher):
    """A processor that receives it too late publishes the same event."""
    waits = SUBMITTED.model_copy(update={"start_within": timedelta(seconds=2)})
    reaper, *_ = create_reaper(publisher, KnownJob(job=waits, at=AT, status=Status.QUEUED, due=AT, cancel_at=None))
    await reaper.end_overdue(receiving=True)
    (event,) = publisher.events
    assert ("expired", start_by(waits)) == (event.job.error.kind, event.job.finished_at)
    assert JobSubmitted(job=waits).sequence < event.sequence == expired(waits).sequence
    assert encode(expired(waits)) == encode(event)
    started = waits.model_copy(update={"delivery": 1})
    assert JobStarted(job=started).sequence < event.sequence, "no reader sees it run after that"
    assert event.sequence < JobSucceeded(job=started.model_copy(update={"finished_at": AT})).sequence


@settings(max_examples=200)
@given(believed_events(JobEvent), MOMENTS.filter(lambda moment: moment <= TODAY))
def test_whatever_end_a_tracker_infers_is_valid(event, requested_at):
    """Canceled, expired or lost: whatever the latest event states, its job can be ended."""
    assume(not event.status.terminal)
    publisher = FakeEventPublisher()
    known = KnownJob(job=event.job, at=event.time, status=event.status, due=TODAY, cancel_at=requested_at)
    reaper, *_ = create_reaper(publisher, known)
    asyncio.run(reaper.cancel([event.job.id]))
    assert 1 == asyncio.run(reaper.end_overdue(receiving=True))
    with patch("milepost_contracts.messages.trust.now", lambda: TODAY + timedelta(days=1000)):  # it is overdue by then
        assert all(readable(end) for end in publisher.events)
    ends = [JobFailed] if event.status is Status.RUNNING else [JobCanceled, JobFailed]
    assert ends == [type(end) for end in publisher.events]


async def test_a_job_whose_latest_event_is_of_the_future_ends_now(publisher):
    """It may have been stored before such events were refused; an end of the future would be refused too."""
    reaper, *_ = create_reaper(publisher, replace(OVERDUE, at=LAST_MOMENT))
    assert 1 == await reaper.end_overdue(receiving=True)
    assert publisher.events[0].job.finished_at <= now()
    assert readable(publisher.events[0])


@pytest.mark.parametrize("act", ["cancel", "end_overdue"])
async def test_a_job_that_can_not_be_ended_does_not_keep_others_open(publisher, act):
    """It is logged and left; those behind it end."""
    odd = replace(OVERDUE, job=RUNNING.model_copy(update={"max_runtime": None, "quarantined": None, "id": "odd"}))
    known = [replace(one, status=Status.QUEUED if act == "cancel" else Status.RUNNING) for one in (odd, OVERDUE)]
    reaper, *_ = create_reaper(publisher, *known)
    await (reaper.cancel(["odd", RUNNING.id]) if act == "cancel" else reaper.end_overdue(receiving=True))
    assert [RUNNING.id] == [event.job.id for event in publisher.events]
