"""The reaper: it ends overdue jobs and canceled jobs that no processor runs."""

from datetime import timedelta

import pytest
from samples import AT, ENDED, RUNNING, SAMPLES, SUBMITTED

from milepost_contracts.clock import now
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.states import Status
from milepost_contracts.status.deadlines import expired, report_within, start_by
from milepost_contracts.values import JobError
from milepost_tracker.core.reaper import Reaper
from milepost_tracker.ports.status_store import KnownJob

OVERDUE = KnownJob(job=RUNNING, at=AT, status=Status.RUNNING, due=AT, cancel_at=AT)


class FakeStore:
    def __init__(self, *known):
        self._known = known

    async def jobs(self, job_ids):
        return [known for known in self._known if known.job.id in job_ids]

    async def overdue(self):
        return [known.job.id for known in self._known]


class FakeEventPublisher:
    def __init__(self):
        self.events = []

    async def publish(self, event):
        self.events.append(event)


@pytest.fixture
def publisher():
    return FakeEventPublisher()


async def test_a_job_without_events_past_its_deadline_is_lost(publisher):
    """It ends `failed`, at the time of its deadline."""
    assert 1 == await Reaper(FakeStore(OVERDUE), publisher).end_overdue()
    (event,) = publisher.events
    assert ("failed", "lost", AT) == (event.status, event.job.error.kind, event.job.finished_at)


async def test_a_late_event_of_a_processor_wins_over_lost(publisher):
    """`lost` is an inference; the end, or a new start, that a processor publishes later wins."""
    await Reaper(FakeStore(OVERDUE), publisher).end_overdue()
    lost = publisher.events[0].sequence
    later = ENDED.model_copy(update={"step": RUNNING.step + 1})
    error = JobError(kind="exception", message="no")
    assert JobProgressed(job=RUNNING).sequence < lost
    assert lost < JobSucceeded(job=later).sequence
    assert lost < JobFailed(job=later.model_copy(update={"error": error})).sequence
    assert lost < JobStarted(job=RUNNING.model_copy(update={"delivery": RUNNING.delivery + 1, "step": 1})).sequence


async def test_jobs_that_are_not_due_are_not_ended(publisher):
    """The view may have changed since the job was listed as overdue."""
    later = KnownJob(job=RUNNING, at=AT, status=Status.RUNNING, due=now() + timedelta(hours=1), cancel_at=None)
    ended = KnownJob(job=ENDED, at=AT, status=Status.SUCCEEDED, due=None, cancel_at=None)
    assert 0 == await Reaper(FakeStore(later, ended), publisher).end_overdue()
    assert [] == publisher.events


async def test_a_canceled_job_that_was_never_started_ends_canceled(publisher):
    """Its end has the time of the cancel request."""
    waiting = KnownJob(job=SUBMITTED, at=AT, status=Status.QUEUED, due=now(), cancel_at=AT)
    await Reaper(FakeStore(waiting), publisher).cancel([SUBMITTED.id])
    (event,) = publisher.events
    assert ("canceled", AT, "before-start") == (event.status, event.job.finished_at, event.job.canceled_how)


async def test_several_trackers_publish_identical_events(publisher):
    """Time and id are derived from the view, so it does not matter which tracker publishes first."""
    store = FakeStore(OVERDUE)
    await Reaper(store, publisher).end_overdue()
    await Reaper(store, publisher).end_overdue()
    await Reaper(store, publisher).cancel([RUNNING.id])
    await Reaper(store, publisher).cancel([RUNNING.id])
    first, again, canceled, canceled_again = map(encode, publisher.events)
    assert (first, canceled) == (again, canceled_again)


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
    await Reaper(
        FakeStore(KnownJob(job=waits, at=AT, status=Status.QUEUED, due=AT, cancel_at=None)), publisher
    ).end_overdue()
    (event,) = publisher.events
    assert ("expired", start_by(waits)) == (event.job.error.kind, event.job.finished_at)
    assert JobSubmitted(job=waits).sequence < event.sequence == expired(waits).sequence
    assert event.sequence < JobStarted(job=waits.model_copy(update={"delivery": 1})).sequence, (
        "it was started after all"
    )
