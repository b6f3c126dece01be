"""The ends before a start, which trackers and processors both publish."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_histories import MOMENTS, RETENTION, job_events
from samples import AT, RUNNING, SUBMITTED

from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import (
    CancelRequest,
    JobCanceled,
    JobRetrying,
    JobScheduled,
    JobSubmitted,
    decode_event,
)
from milepost_contracts.status.ends import canceled_before_start, expired, inferred, is_waiting_end
from milepost_contracts.status.merge import cancel_key, requested_at
from milepost_contracts.status.render import job_of, read_job, render_hidden, render_state
from milepost_contracts.values import MAX_DELIVERY, Job, PutOff

WAITING = job_events(kinds=[JobSubmitted, JobScheduled, JobRetrying])


@given(WAITING, st.timedeltas(timedelta(0), timedelta(days=300)))
def test_the_view_and_the_message_of_a_job_give_the_same_end(event, later):
    """A tracker builds it from the view, a processor from the message: equal sequences have equal bytes, and one id."""
    viewed, _ = read_job(render_state(event, retention=timedelta(days=1)), render_hidden(event))
    at = event.job.created_at + later
    assert encode(canceled_before_start(event.job, requested_at=at)) == encode(
        canceled_before_start(viewed, requested_at=at)
    )
    assert encode(expired(event.job)) == encode(expired(viewed))


@pytest.mark.parametrize("run_at", ["2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05+05:30"])
def test_whoever_finds_a_job_expired_publishes_the_same_bytes(run_at):
    """The tracker from the stored state, and the processor from its message: so its webhook has one id."""
    job = Job.model_validate_json(SUBMITTED.model_copy(update={"params": {"x": 1e16}}).model_dump_json())
    job = Job.model_validate(job.model_dump() | {"run_at": run_at})
    event = decode_event(encode(JobScheduled(job=job)))
    stored = job_of(render_state(event, retention=RETENTION), render_hidden(event))
    assert encode(expired(event.job)) == encode(expired(stored))


@given(WAITING)
def test_deliveries_without_a_start_do_not_change_the_end(event):
    """A processor had no thread free, or could not run the job: it published a copy that no reader sees."""
    changes = {
        "delivery": event.job.delivery + 3,
        "redelivered": 2,
        "put_off": PutOff(until=AT),
        "run_at": event.job.run_at or event.job.created_at,
    }
    copy = event.job.model_copy(update=changes)
    for end in (expired, lambda job: canceled_before_start(job, requested_at=AT)):
        assert encode(end(event.job)) == encode(end(copy))


@given(WAITING, MOMENTS, MOMENTS)
def test_ends_of_different_requests_have_different_sequences(event, one, other):
    """The end of the first request wins, as the first request does."""
    ends = [canceled_before_start(event.job, requested_at=at) for at in (one, other)]
    assert (ends[0].sequence < ends[1].sequence) == (one > other)
    assert (ends[0].event_id == ends[1].event_id) == (one == other)


@given(MOMENTS)
def test_the_time_of_a_cancel_request_is_read_from_its_key(at):
    """In milliseconds, as the view has it."""
    event = SUBMITTED.model_copy(update={"created_at": at})
    request = CancelRequest(job_id="job", type="count", queue="default", requested_at=at)
    assert at == requested_at(cancel_key(request))
    assert canceled_before_start(event, requested_at=at).job.finished_at == at


def test_the_message_of_a_job_that_ended_before_its_start_may_still_be_waiting():
    """So what orders its events is kept longer. The end of a handler is followed by an acknowledgement."""
    assert is_waiting_end(canceled_before_start(SUBMITTED, requested_at=AT))
    assert is_waiting_end(expired(SUBMITTED))
    handled = JobCanceled(job=RUNNING.model_copy(update={"finished_at": AT, "canceled_how": "forced"}))
    assert not is_waiting_end(handled)


def test_the_delivery_number_of_an_inferred_end_fits_a_sequence():
    """However often the job was delivered."""
    assert MAX_DELIVERY == inferred(MAX_DELIVERY)
