"""What is no message of ours is told from what is, and why."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_histories import job_events
from pydantic import ValidationError
from samples import ENDED, RUNNING, SAMPLES

from milepost_contracts.envelope import encode
from milepost_contracts.errors import MalformedEvent, UnknownEvent
from milepost_contracts.events import JobFailed, JobStarted, JobSucceeded, decode_event
from milepost_contracts.values import MAX_EVENT

STARTED = json.loads(encode(SAMPLES[1]))


def changed(**changes):
    return json.dumps({**STARTED, **changes}).encode()


def with_data(**changes):
    return changed(data={**STARTED["data"], **changes})


@given(job_events())
def test_every_event_survives_the_wire(event):
    """Encoding loses nothing."""
    assert event == decode_event(encode(event))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"5",
        b'{"specversion":"1.0"',
        b"null",
        b"x" * (MAX_EVENT + 1),
        changed(specversion="0.3"),
        changed(data=None),
        changed(data=[]),
        changed(id=None),
        changed(id=7),
        changed(time="yesterday"),
        changed(subject="another"),
        changed(source="/elsewhere"),
        changed(sequence="9999"),
        changed(sequence=12),
        changed(traceparent="00-xyz"),
        with_data(type="UPPER case"),
        with_data(params="text"),
        with_data(attempt=-1),
        with_data(attempt=1.5),
        with_data(step=10**20),
        with_data(run=0),
        with_data(id="not an id"),
        with_data(started_at="9999-12-31T23:59:59Z"),
        with_data(created_at="0001-01-01T00:00:00+14:00"),
        with_data(created_at="2026-01-01T00:00:00"),
        with_data(finished_at="2026-01-01T00:00:00Z"),
        with_data(progress={"done": 1, "percent": 101}),
        with_data(progress={"done": -5}),
        encode(SAMPLES[2]).replace(b'"percent":30.0', b'"percent":NaN'),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(body):
    """A body that is not what it says to be is never half taken: an error with words, and nothing else."""
    with pytest.raises(MalformedEvent) as caught:
        decode_event(body)
    assert str(caught.value)


@pytest.mark.parametrize("kind", ["dev.milepost.job.started.v2", "com.example.thing", None, 3, ["a"]])
def test_an_unknown_type_or_version_is_told_apart(kind):
    """Whoever reads may treat a newer release's event otherwise than garbage."""
    with pytest.raises(UnknownEvent):
        decode_event(changed(type=kind))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(body):
    """Garbage is refused, never raises anything else."""
    with pytest.raises(MalformedEvent):
        decode_event(body)


def test_a_terminal_event_says_when_the_job_finished_and_others_do_not():
    """`finished_at` and the state can't contradict each other."""
    with pytest.raises(ValidationError):
        JobSucceeded(job=RUNNING)
    with pytest.raises(ValidationError):
        JobStarted(job=ENDED)


def test_a_failed_job_says_why():
    """No job ends `failed` without a reason."""
    with pytest.raises(ValidationError):
        JobFailed(job=ENDED)
