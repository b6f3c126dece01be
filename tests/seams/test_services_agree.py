"""The services read each other's messages: the same bytes, without a broker."""

import re
from importlib.resources import files

import pytest
from dramatiq.message import Message, get_encoder, set_encoder
from gateway_fakes.params_validator import FakeParamsValidator
from samples import SUBMITTED
from trusted import TRUST, received

import milepost_basics
from milepost import definitions_in
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_contracts.messages.topology import Topology
from milepost_contracts.secret_params import SecretParams
from milepost_contracts.values import MAX_DELIVERY, MAX_EVENT, MAX_RUN
from milepost_gateway.adapters.broker import CONFIRM_TIMEOUT
from milepost_gateway.core.job_types import KnownType
from milepost_gateway.errors import InvalidParams
from milepost_processor.adapters.dramatiq.encoder import EnvelopeEncoder
from milepost_tracker.core.projector import decode_all


class FakeDelivery:
    queue = "lifecycle"

    def __init__(self, received):
        self.received = received


def test_the_reader_of_claims_has_the_limits_of_the_contracts():
    """Lua can't import them: a claim with a larger number or a longer text is none."""
    text = files("milepost_redis").joinpath("read_claim.lua").read_text()
    limits = {name: int(number) for name, number in re.findall(r"(run|delivery) = (\d+)", text)}
    assert {"run": MAX_RUN, "delivery": MAX_DELIVERY} == limits
    assert str(MAX_EVENT) in text


def test_a_submission_of_the_gateway_is_a_command_for_the_processor_and_an_event_for_the_tracker():
    """Both decode the same message to the same value."""
    sent = received(JobSubmitted(job=SUBMITTED))
    before = get_encoder()
    set_encoder(EnvelopeEncoder(Topology()))
    try:
        command = Message.decode(sent.body).kwargs["command"]
    finally:
        set_encoder(before)
    good, poison = decode_all([FakeDelivery(sent)], TRUST.job_message)
    assert ([command], []) == ([message for _, message in good], poison)
    assert "digest-files" == command.job.type


@pytest.mark.parametrize("definition", definitions_in(milepost_basics), ids=lambda one: one.type)
async def test_the_gateway_validates_params_against_the_announced_schema(definition):
    """The handler's model and the announced schema reject the same unknown field."""
    announced = definition.announcement()
    known = KnownType.of(announced, FakeParamsValidator(), SecretParams(announced.params_schema))
    assert known.quick is not None, "its params are checked without another process"
    with pytest.raises(InvalidParams, match="params"):
        await known.check({"a_typo": 1}, b'{"a_typo":1}', tenant="acme", until=0)
    with pytest.raises(ValueError, match="a_typo"):
        definition.params.model_validate({"a_typo": 1})


def test_the_confirm_timeout_fits_the_promised_response_time():
    """2 s for the publisher confirm leave half a second of the promised 2.5 s for everything else."""
    assert CONFIRM_TIMEOUT <= 2.0
