"""The status document."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_histories import RETENTION, job_events
from samples import AT, ID, SAMPLES

from milepost_contracts import document
from milepost_contracts.document import JobDocument
from milepost_contracts.events import CancelRequested, JobEvent
from milepost_contracts.values import utc_text

CANCEL = next(sample.request for sample in SAMPLES if isinstance(sample, CancelRequested))
EVENTS = [sample for sample in SAMPLES if isinstance(sample, JobEvent)]


def rendered(event, version=3, cancel=None):
    return json.loads(document.render(event, cancel=cancel, version=version, retention=RETENTION))


@given(job_events(), st.integers(0, 10**9))
def test_every_event_renders_to_a_document_that_clients_can_read(event, version):
    """The renderer writes every field of `JobDocument`, and no other."""
    shown = rendered(event, version)
    assert set(JobDocument.model_fields) == set(shown)
    read = JobDocument.model_validate(shown)
    assert (version, event.status, event.job.id) == (read.version, read.status, read.id)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.fact)
def test_secrets_of_the_house_stay_in_it(event):
    """Where a file is stored and whose job it is are not for clients."""
    shown = json.dumps(rendered(event))
    assert "jobs/" + ID + "/0000" not in shown
    assert "tenant" not in shown


def test_an_unprojected_document_has_the_same_fields_and_claims_nothing():
    """Between the 202 and the first word of a tracker, a job is `queued`, version 0."""
    shown = json.loads(document.unprojected(ID, AT))
    assert set(JobDocument.model_fields) == set(shown)
    read = JobDocument.model_validate(shown)
    assert (0, "queued", None, None) == (read.version, read.status, read.type, read.params)


def test_an_ended_job_says_when_it_is_forgotten():
    """`expires_at` is the end plus the retention, and unknown before the end."""
    ended = next(event for event in EVENTS if event.status == "succeeded")
    assert utc_text(ended.job.finished_at + timedelta(days=7)) == rendered(ended)["expires_at"]
    assert rendered(EVENTS[0])["expires_at"] is None


@pytest.mark.parametrize(
    "fact, how, effective",
    [
        ("job.started", None, False),
        ("job.canceled", "cooperative", True),
        ("job.succeeded", "too-late", False),
        ("job.failed", "too-late", False),
    ],
)
def test_a_cancel_request_shows_with_what_came_of_it(fact, how, effective):
    """Asked for is not done: the request stands apart from the status, and says whether it came in time."""
    event = next(event for event in EVENTS if event.fact == fact)
    shown = rendered(event, cancel=CANCEL)
    said = {
        "at": "2026-01-02T03:04:05.678Z",
        "effective_at": shown["finished_at"] if effective else None,
        "how": how,
    }
    assert (event.status, said) == (shown["status"], shown["cancel_requested"])
    assert JobDocument.model_validate(shown)


def test_a_request_can_be_added_to_a_document_that_has_none():
    """Before a tracker has seen it, the gateway shows what it will say."""
    before = document.render(EVENTS[1], cancel=None, version=3, retention=RETENTION)
    assert rendered(EVENTS[1], cancel=CANCEL) == json.loads(document.with_cancel_request(before, CANCEL))


@given(job_events())
def test_a_job_can_be_put_together_again_from_what_is_kept_of_it(event):
    """The tracker speaks of jobs that nobody else speaks of any more."""
    state, hidden = document.render_state(event, retention=RETENTION), document.render_hidden(event)
    assert event.job == document.job_of(state, hidden)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.fact)
def test_every_job_that_has_not_ended_is_waited_for_with_an_end(event):
    """So that none of them stays open for ever; and an ended one is not waited for."""
    patience = document.patience(event)
    assert (patience is None) == event.status.terminal
    assert patience is None or patience >= document.SPEAK_WITHIN


def test_how_long_a_job_is_waited_for_does_not_depend_on_a_clock():
    """Whoever reports may be ten minutes off."""
    off = timedelta(minutes=10)
    for event in EVENTS:
        moments = {name: getattr(event.job, name) for name in ("created_at", "started_at", "run_at")}
        shifted = event.job.model_copy(update={name: at and at + off for name, at in moments.items()})
        there = event.model_copy(update={"job": shifted, "time": event.time + off})
        assert document.patience(event) == document.patience(there)
