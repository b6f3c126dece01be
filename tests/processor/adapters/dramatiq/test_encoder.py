"""The encoder for Dramatiq: a CloudEvents envelope is its message."""

import pytest
from dramatiq.errors import DecodeError
from dramatiq.message import Message, get_encoder, set_encoder
from samples import AT, SAMPLES, SUBMITTED

from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import COMMANDS, JobPostponed, JobQuarantined, JobSubmitted
from milepost_contracts.messages.topology import Topology
from milepost_processor.adapters.dramatiq.consumer import _delivery
from milepost_processor.adapters.dramatiq.encoder import EnvelopeEncoder
from milepost_processor.core.runner import Delivery

NOT_COMMANDS = [encode(sample) for sample in SAMPLES if not isinstance(sample, COMMANDS)]
ENCODER = EnvelopeEncoder(Topology(namespace="test"))


@pytest.fixture(autouse=True)
def envelope_encoder():
    before = get_encoder()
    set_encoder(ENCODER)
    yield
    set_encoder(before)


def test_a_submitted_job_is_a_message_for_the_actor_of_its_type():
    """It has the job's queue and none of Dramatiq's options."""
    message = Message.decode(encode(JobSubmitted(job=SUBMITTED)))
    assert ("test.work.default", "digest-files", {}) == (message.queue_name, message.actor_name, message.options)
    assert SUBMITTED == message.kwargs["command"].job


@pytest.mark.parametrize("sample", [one for one in SAMPLES if isinstance(one, COMMANDS)], ids=lambda one: one.fact)
def test_every_command_names_the_queue_that_it_waits_in(sample):
    """Interrupted, retried and scheduled jobs are for the work queue; quarantined jobs are for the quarantine queue."""
    queue = "test.quarantine.default" if isinstance(sample, JobQuarantined) else "test.work.default"
    assert queue == Message.decode(encode(sample)).queue_name


def test_a_job_that_is_postponed_in_quarantine_returns_there():
    """A message that names another queue than the one it came from is dead-lettered."""
    postponed = JobPostponed(job=SUBMITTED.model_copy(update={"quarantined": 100, "run_at": AT}))
    assert "test.quarantine.default" == Message.decode(encode(postponed)).queue_name


def test_dramatiq_encodes_a_decoded_envelope_unchanged():
    """The body is the same, byte for byte."""
    body = encode(JobSubmitted(job=SUBMITTED))
    assert body == Message.decode(body).encode()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\x80", *NOT_COMMANDS])
def test_anything_but_a_command_is_refused(body):
    """A body that decodes to wrong types would block Dramatiq's own consumer forever."""
    with pytest.raises(DecodeError):
        Message.decode(body)


def test_a_body_in_dramatiqs_own_format_is_refused():
    """Nobody can call an actor without the envelope and with options of their own."""
    with pytest.raises(DecodeError):
        Message.decode(
            b'{"queue_name":"default","actor_name":"noop","args":[],"kwargs":{},"options":{"time_limit":1},'
            b'"message_id":"1","message_timestamp":1}'
        )


@pytest.mark.parametrize(
    "headers, count, failed",
    [
        ({}, 0, 0),
        ({"x-delivery-count": 2}, 2, 2),
        ({"x-acquired-count": 3, "x-delivery-count": 1}, 3, 1),
        ({"x-delivery-count": "7"}, 0, 0),
        ({"x-delivery-count": -3}, 0, 0),
        ({"x-acquired-count": 10**12}, 99, 0),
    ],
)
def test_the_delivery_count_is_read_from_the_brokers_headers(headers, count, failed):
    """RabbitMQ 3.10 counts deliveries, 4.3 acquisitions."""
    assert Delivery(count=count, failed=failed) == _delivery(headers)
