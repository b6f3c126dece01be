"""The status document."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_histories import RETENTION, job_events
from samples import AT, ID, SAMPLES

from milepost_contracts.messages.job_events import CancelRequested, JobEvent
from milepost_contracts.status import deadlines, render
from milepost_contracts.status.document import JobDocument
from milepost_contracts.values import FileRef, utc_text

CANCEL = next(sample.request for sample in SAMPLES if isinstance(sample, CancelRequested))
EVENTS = [sample for sample in SAMPLES if isinstance(sample, JobEvent)]


def rendered(event, version=3, cancel=None):
    return json.loads(render.render_document(event, cancel=cancel, version=version, retention=RETENTION))


@given(job_events(), st.integers(0, 10**9))
def test_every_event_renders_to_a_document_that_clients_can_read(event, version):
    """The renderer writes exactly the fields of `JobDocument`."""
    shown = rendered(event, version)
    assert set(JobDocument.model_fields) == set(shown)
    parsed = JobDocument.model_validate(shown)
    assert (version, event.status, event.job.id) == (parsed.version, parsed.status, parsed.id)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.fact)
def test_a_document_has_no_internal_fields(event):
    """Storage keys and the tenant are not for clients."""
    shown = json.dumps(rendered(event))
    assert "jobs/" + ID + "/0000" not in shown
    assert "tenant" not in shown


def test_an_unprojected_document_has_all_fields_and_is_queued():
    """Between the 202 and the tracker's first event a job is `queued` with version 0."""
    shown = json.loads(render.assemble(0, render.render_unprojected(ID, AT)))
    assert set(JobDocument.model_fields) == set(shown)
    parsed = JobDocument.model_validate(shown)
    assert (0, "queued", None, None) == (parsed.version, parsed.status, parsed.type, parsed.params)


def test_the_files_of_an_unfinished_job_are_not_shown():
    """Earlier attempts wrote them; the next one may replace them."""
    file = FileRef(name="a.csv", size=3, key="jobs/1/2/0000")
    left = {"outputs": (file,), "result_file": file}
    retrying = next(event for event in SAMPLES if event.fact == "job.retrying")
    failed = next(event for event in SAMPLES if event.fact == "job.failed")
    for event, shown in ((retrying, False), (failed, True)):
        document = rendered(event.model_copy(update={"job": event.job.model_copy(update=left)}))
        assert (shown, shown) == (bool(document["outputs"]), bool(document["result_file"]))


def test_an_ended_job_has_expires_at():
    """`expires_at` is the end plus the retention; before the end it is null."""
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
def test_a_cancel_request_is_shown_with_its_effect(fact, how, effective):
    """It is separate from the status, and says whether and when it took effect."""
    event = next(event for event in EVENTS if event.fact == fact)
    shown = rendered(event, cancel=CANCEL)
    expected = {
        "at": "2026-01-02T03:04:05.678Z",
        "effective_at": shown["finished_at"] if effective else None,
        "how": how,
    }
    assert (event.status, expected) == (shown["status"], shown["cancel_requested"])
    assert JobDocument.model_validate(shown)


def test_a_cancel_request_is_shown_alike_before_and_after_the_tracker_applies_it():
    """The gateway shows it at once."""
    requested = render.cancel_requested(render.render_cancel(CANCEL))
    state = render.render_state(EVENTS[1], retention=RETENTION)
    assert rendered(EVENTS[1], cancel=CANCEL) == json.loads(render.assemble(3, state, cancel_requested=requested))


@pytest.mark.parametrize("result", [None, {"waiting": None, "links": {}}, ['"waiting":null'], "waiting"])
def test_waiting_is_filled_in_only_in_its_own_field(result):
    """A handler's result that looks like the field is not changed."""
    ended = next(event for event in EVENTS if event.status == "succeeded")
    job = ended.job.model_copy(update={"result": result})
    state = render.render_state(ended.model_copy(update={"job": job}), retention=RETENTION)
    shown = json.loads(render.assemble(3, state, waiting=b'{"reason":"x"}'))
    assert {"reason": "x"} == shown["waiting"]
    assert shown | {"waiting": None} == json.loads(render.assemble(3, state))


@given(job_events())
def test_a_job_can_be_rebuilt_from_its_stored_state(event):
    """The tracker publishes events of jobs of which it has only the stored state."""
    state, hidden = render.render_state(event, retention=RETENTION), render.render_hidden(event)
    assert event.job == render.job_of(state, hidden)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.fact)
def test_every_unfinished_job_has_a_deadline_for_its_next_event(event):
    """No job stays open forever; an ended job has no deadline."""
    report_within = deadlines.report_within(event)
    assert (report_within is None) == event.status.terminal
    assert report_within is None or report_within >= deadlines.REPORT_GRACE


def test_the_deadline_for_the_next_event_does_not_depend_on_clock_skew():
    """The reporter's clock may be ten minutes off."""
    skew = timedelta(minutes=10)
    for event in EVENTS:
        moments = {name: getattr(event.job, name) for name in ("created_at", "started_at", "run_at")}
        shifted = event.job.model_copy(update={name: at and at + skew for name, at in moments.items()})
        skewed = event.model_copy(update={"job": shifted, "time": event.time + skew})
        assert deadlines.report_within(event) == deadlines.report_within(skewed)
