"""What the tracker says of jobs itself."""

from datetime import timedelta

import pytest
from samples import AT, ENDED, RUNNING, SAMPLES, SUBMITTED

from milepost_contracts.document import expired, patience, start_by
from milepost_contracts.envelope import encode, now
from milepost_contracts.events import (
    JOB_EVENTS,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.states import Status
from milepost_contracts.values import JobError
from milepost_tracker.ports import Known
from milepost_tracker.verdicts import Verdicts

RUNS = Known(job=RUNNING, at=AT, status=Status.RUNNING, due=AT, cancel_at=AT)


class FakeStore:
    def __init__(self, *jobs):
        self.jobs = jobs

    async def known(self, job_ids):
        return [known for known in self.jobs if known.job.id in job_ids]

    async def overdue(self):
        return [known.job.id for known in self.jobs]


class FakeOutbox:
    def __init__(self):
        self.events = []

    async def deliver(self, event):
        self.events.append(event)


@pytest.fixture
def outbox():
    return FakeOutbox()


async def test_a_job_that_nobody_speaks_of_is_lost(outbox):
    """It ends `failed`, as of the time when somebody should have spoken."""
    assert 1 == await Verdicts(FakeStore(RUNS), outbox).end_overdue()
    (event,) = outbox.events
    assert ("failed", "lost", AT) == (event.status, event.job.error.kind, event.job.finished_at)


async def test_late_evidence_wins_over_what_was_inferred(outbox):
    """That a job is lost is an inference; what its handler said is not, whatever it was."""
    await Verdicts(FakeStore(RUNS), outbox).end_overdue()
    lost = outbox.events[0].sequence
    later = ENDED.model_copy(update={"step": RUNNING.step + 1})
    error = JobError(kind="exception", message="no")
    assert JobProgressed(job=RUNNING).sequence < lost
    assert lost < JobSucceeded(job=later).sequence
    assert lost < JobFailed(job=later.model_copy(update={"error": error})).sequence
    assert lost < JobStarted(job=RUNNING.model_copy(update={"turn": RUNNING.turn + 1, "step": 1})).sequence


async def test_what_is_not_due_is_left_alone(outbox):
    """The view may have moved on since it was found."""
    later = Known(job=RUNNING, at=AT, status=Status.RUNNING, due=now() + timedelta(hours=1), cancel_at=None)
    ended = Known(job=ENDED, at=AT, status=Status.SUCCEEDED, due=None, cancel_at=None)
    assert 0 == await Verdicts(FakeStore(later, ended), outbox).end_overdue()
    assert [] == outbox.events


async def test_a_cancel_that_nobody_else_can_effect_is_concluded(outbox):
    """As of when it was asked for."""
    waiting = Known(job=SUBMITTED, at=AT, status=Status.QUEUED, due=now(), cancel_at=AT)
    await Verdicts(FakeStore(waiting), outbox).cancel([SUBMITTED.id])
    (event,) = outbox.events
    assert ("canceled", AT, "before-start") == (event.status, event.job.finished_at, event.job.canceled_how)


async def test_several_trackers_say_the_very_same(outbox):
    """Time and id follow from the view: the log holds what was applied, whoever came first."""
    store = FakeStore(RUNS)
    await Verdicts(store, outbox).end_overdue()
    await Verdicts(store, outbox).end_overdue()
    await Verdicts(store, outbox).cancel([RUNNING.id])
    await Verdicts(store, outbox).cancel([RUNNING.id])
    first, again, canceled, canceled_again = map(encode, outbox.events)
    assert (first, canceled) == (again, canceled_again)


@pytest.mark.parametrize(
    "event", [sample for sample in SAMPLES if isinstance(sample, JOB_EVENTS)], ids=lambda event: event.fact
)
def test_a_deadline_leaves_room_for_what_the_job_was_promised(event):
    """Its whole runtime, or its whole time to be started."""
    length = patience(event)
    if event.status == "running":
        assert event.time + length >= event.job.started_at + event.job.max_runtime
    elif length is not None:
        assert event.time + length >= (event.job.run_at or event.time) + event.job.start_within


def test_to_be_started_in_time_is_a_promise_of_the_first_start_alone():
    """A job that was interrupted, or is in quarantine, is not lost for waiting longer."""
    told = {"start_within": timedelta(seconds=1), "attempts": RUNNING.attempts}
    interrupted = JobInterrupted(job=RUNNING.model_copy(update=told))
    assert patience(interrupted) > timedelta(days=1)


async def test_a_job_that_nobody_started_in_time_is_expired_rather_than_lost(outbox):
    """Whoever asked for it to be started in time reads that it was not; a processor that finds it says the same."""
    waits = SUBMITTED.model_copy(update={"start_within": timedelta(seconds=2)})
    await Verdicts(
        FakeStore(Known(job=waits, at=AT, status=Status.QUEUED, due=AT, cancel_at=None)), outbox
    ).end_overdue()
    (event,) = outbox.events
    assert ("expired", start_by(waits)) == (event.job.error.kind, event.job.finished_at)
    assert JobSubmitted(job=waits).sequence < event.sequence == expired(waits).sequence
    assert event.sequence < JobStarted(job=waits.model_copy(update={"turn": 1})).sequence, "it was started after all"
