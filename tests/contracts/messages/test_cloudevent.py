"""Encoding and decoding of events: invalid messages are refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_histories import job_events
from pydantic import ValidationError
from samples import ENDED, RUNNING, SAMPLES

from milepost_contracts.errors import MalformedEvent, UnknownEvent
from milepost_contracts.messages.cloudevent import encode, peek
from milepost_contracts.messages.job_events import JobFailed, JobStarted, JobSucceeded, decode_event
from milepost_contracts.values import MAX_EVENT

STARTED = json.loads(encode(SAMPLES[1]))


def started_event_with(**changes):
    return json.dumps({**STARTED, **changes}).encode()


def started_event_with_data(**changes):
    return started_event_with(data={**STARTED["data"], **changes})


@given(job_events())
def test_every_event_decodes_to_what_was_encoded(event):
    """Encoding loses nothing."""
    assert event == decode_event(encode(event))


@pytest.mark.parametrize("read", [decode_event, peek])
def test_a_message_that_is_too_long_is_not_even_parsed(read):
    """A few in the log would fill the memory of each tracker that replays it."""
    body = encode(JobSucceeded(job=ENDED)) + b" " * MAX_EVENT
    with pytest.raises(MalformedEvent, match="bytes are more than the"):
        read(body)


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
        started_event_with(specversion="0.3"),
        started_event_with(data=None),
        started_event_with(data=[]),
        started_event_with(id=None),
        started_event_with(id=7),
        started_event_with(time="yesterday"),
        started_event_with(subject="another"),
        started_event_with(source="/elsewhere"),
        started_event_with(sequence="9999"),
        started_event_with(sequence=12),
        started_event_with(traceparent="00-xyz"),
        started_event_with_data(type="UPPER case"),
        started_event_with_data(params="text"),
        started_event_with_data(attempt=-1),
        started_event_with_data(attempt=1.5),
        started_event_with_data(step=10**20),
        started_event_with_data(run=0),
        started_event_with_data(id="not an id"),
        started_event_with_data(started_at="9999-12-31T23:59:59Z"),
        started_event_with_data(created_at="0001-01-01T00:00:00+14:00"),
        started_event_with_data(created_at="2026-01-01T00:00:00"),
        started_event_with_data(finished_at="2026-01-01T00:00:00Z"),
        started_event_with_data(progress={"done": 1, "percent": 101}),
        started_event_with_data(progress={"done": -5}),
        encode(SAMPLES[2]).replace(b'"percent":30.0', b'"percent":NaN'),
    ],
)
def test_an_invalid_message_is_refused_with_a_reason(body):
    """It is never accepted in part, and no other exception is raised."""
    with pytest.raises(MalformedEvent) as caught:
        decode_event(body)
    assert str(caught.value)


@pytest.mark.parametrize("kind", ["dev.milepost.job.started.v2", "com.example.thing", None, 3, ["a"]])
def test_an_unknown_type_or_version_has_its_own_error(kind):
    """A reader can handle a newer release's event differently from an invalid message."""
    with pytest.raises(UnknownEvent):
        decode_event(started_event_with(type=kind))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(body):
    """The decoder raises nothing but `MalformedEvent`."""
    with pytest.raises(MalformedEvent):
        decode_event(body)


def test_exactly_the_terminal_events_have_finished_at():
    """`finished_at` cannot contradict the status."""
    with pytest.raises(ValidationError):
        JobSucceeded(job=RUNNING)
    with pytest.raises(ValidationError):
        JobStarted(job=ENDED)


def test_a_failed_job_has_an_error():
    """No job ends as `failed` without a reason."""
    with pytest.raises(ValidationError):
        JobFailed(job=ENDED)
