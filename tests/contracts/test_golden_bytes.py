"""The wire: what a message of a version looks like never changes again. Files are only ever added."""

from pathlib import Path

import pytest
from samples import SAMPLES

from milepost_contracts.envelope import TYPE_PREFIX, encode
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import JOB_EVENTS, WISHES, JobPostponed, decode_event
from milepost_contracts.fleet import ProcessorAnnounced, ProcessorBeat, ProcessorStopped, decode_fleet

GOLDEN = Path(__file__).parent / "golden"


def golden(message):
    return GOLDEN / f"{message.cloudevent_type().removeprefix(TYPE_PREFIX)}.json"


def decode(body):
    try:
        return decode_event(body)
    except MalformedEvent:
        return decode_fleet(body)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: message.fact)
def test_a_message_is_written_as_ever(message):
    """Other teams and older releases read these bytes."""
    assert golden(message).read_bytes() == encode(message) + b"\n"


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: message.fact)
def test_a_message_is_read_as_ever(message):
    """What an older release wrote is still understood, field by field."""
    assert message == decode(golden(message).read_bytes())


def test_every_message_has_golden_bytes():
    """A new message is not finished without them."""
    classes = {*JOB_EVENTS, JobPostponed, *WISHES, ProcessorAnnounced, ProcessorBeat, ProcessorStopped}
    assert classes == {type(sample) for sample in SAMPLES}
    assert {golden(sample).name for sample in SAMPLES} == {path.name for path in GOLDEN.iterdir()}


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: message.fact)
def test_a_field_of_a_newer_release_is_ignored(message):
    """A release can add fields while older ones still read."""
    body = encode(message).replace(b'"data":{', b'"data":{"of_a_newer_release":1,')
    assert message == decode(body)
