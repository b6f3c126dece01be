"""Golden bytes: the bytes of a message of a given version never change. Files are only ever added."""

import json
from pathlib import Path

import pytest
from samples import SAMPLES, VARIANTS

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.cloudevent import TYPE_PREFIX, encode
from milepost_contracts.messages.job_events import JOB_EVENTS, REQUESTS, JobPostponed, decode_event
from milepost_contracts.messages.worker_events import (
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
    decode_worker_event,
)

USER_DEFINED = {"params", "params_schema", "result", "result_schema", "last", "saved_state", "queue_wait"}
GOLDEN = Path(__file__).parent / "golden"


MESSAGES = {message.cloudevent_type().removeprefix(TYPE_PREFIX): message for message in SAMPLES} | VARIANTS


def golden(name):
    return (GOLDEN / f"{name}.json").read_bytes()


def decode(body):
    try:
        return decode_event(body)
    except MalformedEvent:
        return decode_worker_event(body)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_encodes_to_its_golden_bytes(name):
    """Other teams and older releases read these bytes."""
    assert golden(name) == encode(MESSAGES[name]) + b"\n"


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes_decode_to_their_message(name):
    """Messages of an older release are still decoded, field by field."""
    assert MESSAGES[name] == decode(golden(name))


def test_every_message_has_golden_bytes():
    """A new message needs them."""
    classes = {*JOB_EVENTS, JobPostponed, *REQUESTS, ProcessorAnnounced, ProcessorHeartbeat, ProcessorStopped}
    assert classes == {type(sample) for sample in SAMPLES}
    assert set(MESSAGES) == {path.stem for path in GOLDEN.iterdir()}


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: message.fact)
def test_fields_of_a_newer_release_are_ignored(message):
    """A release can add fields in any place, and older releases still decode the message."""
    assert message == decode(json.dumps(with_new_fields(json.loads(encode(message)))).encode())


def with_new_fields(value):
    """Return a JSON value with one more field in each of its objects, but for those that users define."""
    if isinstance(value, list):
        return [with_new_fields(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {"of_a_newer_release": 1} | {
        name: one if name in USER_DEFINED else with_new_fields(one) for name, one in value.items()
    }
