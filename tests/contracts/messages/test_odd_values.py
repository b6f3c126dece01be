"""Odd values in a message: it is refused as malformed, or all that is derived from it can be stored and read back.

A value that passes and fails later would end every tracker, one after the other: the message comes back each time.
"""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SAMPLES

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JobEvent, JobScheduled, decode_event
from milepost_contracts.messages.worker_events import WorkerEvent, decode_worker_event
from milepost_contracts.status import deadlines, history, render
from milepost_contracts.status.ends import expired
from milepost_contracts.status.merge import merge
from milepost_contracts.status.summary import read_summary, render_summary, summarize

#: JSON texts: times near the limits of a year, of the calendar and of UTC, and numbers, texts and nesting that some
#: parser or encoder does not take.
TIMES = [
    '"0001-01-01T00:00:00+23:59"',
    '"1970-01-01T00:00:00+23:59"',
    '"2500-12-31T23:59:59-23:59"',
    '"2500-12-31T23:59:59.999999Z"',
    '"9999-12-31T23:59:59-23:59"',
    '"0000-01-01T00:00:00Z"',
    '"10000-01-01T00:00:00Z"',
    '"2026-01-02T03:04:05"',
    "1000000000000000000",
    "-1",
    "1e18",
]
OTHERS = [
    *("NaN", "Infinity", "1e999", "-1e999", "1e-320", "9" * 400, "9" * 5_000, "18446744073709551616"),
    *('"\\ud800"', '"\\u0000"', '"P366D"', '"P9999999999D"', '"PT0.0000001S"', "null", '""', "[]", "{}", "true"),
    *("[" * 90 + "]" * 90, "[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, "[1e999]"),
]
PLACE = "@@@"


def places(value, place=()):
    """Yield the path of each value inside a JSON value."""
    yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, key))


def with_value(message, place, text):
    """Return the bytes of a message that has this JSON text at a place."""
    body = json.loads(encode(message))
    if not place:
        return text.encode()
    target = body
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = PLACE
    return json.dumps(body).replace(f'"{PLACE}"', text).encode()


CASES = [(message, place) for message in SAMPLES for place in places(json.loads(encode(message)))]
TIME_CASES = [case for case in CASES if case[1] and (case[1][-1] == "time" or str(case[1][-1]).endswith("_at"))]


def decoded(body):
    for decode in (decode_event, decode_worker_event):
        try:
            return decode(body)
        except MalformedEvent:
            pass
    return None


def use(message):
    """Do with a message what trackers and gateways do."""
    if isinstance(message, WorkerEvent):
        stored = message.data()
        assert type(stored).model_validate_json(stored.model_dump_json()).model_dump_json() == stored.model_dump_json()
        return
    ((job_id, view),) = merge([message]).items()
    assert message.subject == job_id
    assert decode_event(encode(message)) is not None
    if view.cancel is not None:
        render.cancel_requested(render.render_cancel(view.cancel))
    if isinstance(message, JobEvent):
        use_event(message)


def use_event(event):
    retention = timedelta(days=365)
    hidden = render.render_hidden(event)
    job, _ = render.read_job(render.render_state(event, retention=retention), hidden)
    assert render.job_of(render.render_state(event, retention=retention), hidden) == job
    json.loads(render.render_document(event, cancel=None, version=1, retention=retention))
    read_summary(event.status, render_summary(summarize(event, retention=retention)))
    deadlines.report_within(event)
    assert decode_event(encode(expired(job))).status == "failed"
    history.read(history.write(event))


@given(st.sampled_from(CASES), st.sampled_from(TIMES + OTHERS))
def test_a_message_with_an_odd_value_is_refused_or_can_be_stored_and_read_back(case, text):
    """Whatever the value, and wherever it is."""
    if (message := decoded(with_value(*case, text))) is not None:
        use(message)


@pytest.mark.parametrize("text", TIMES)
def test_an_odd_time_is_refused_or_can_be_stored_and_read_back(text):
    """In every field that holds a time: a time zone can move it across the limit of the supported years."""
    for case in TIME_CASES:
        if (message := decoded(with_value(*case, text))) is not None:
            use(message)


def test_a_job_that_would_expire_after_the_last_supported_time_expires_then():
    """Its end carries a time that can be read."""
    scheduled = next(sample for sample in SAMPLES if isinstance(sample, JobScheduled))
    use(decoded(with_value(scheduled, ("data", "run_at"), '"2500-12-31T23:59:59Z"')))
