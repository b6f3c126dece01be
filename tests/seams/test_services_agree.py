"""What one service says, another one understands: the same bytes, no broker between."""

import jsonschema_rs
import pytest
from dramatiq.message import Message, get_encoder, set_encoder
from samples import SUBMITTED

import milepost_basics
from milepost import definitions_in
from milepost_contracts.events import JobSubmitted, decode_event, encode_event
from milepost_contracts.topology import Topology
from milepost_gateway.broker import CONFIRM_WITHIN
from milepost_gateway.catalogue import KnownType
from milepost_processor.encoder import EnvelopeEncoder
from milepost_tracker.projector import sort_out


class Taken:
    queue = "lifecycle"

    def __init__(self, body):
        self.body = body


def test_a_submission_of_the_gateway_is_a_command_for_the_processor_and_an_event_for_the_tracker():
    """One message, three readers."""
    body = encode_event(JobSubmitted(job=SUBMITTED))
    before = get_encoder()
    set_encoder(EnvelopeEncoder(Topology()))
    try:
        command = Message.decode(body).kwargs["command"]
    finally:
        set_encoder(before)
    events, poison = sort_out([Taken(body)], decode_event)
    assert ([command], []) == (events, poison)
    assert "digest-files" == command.job.type


@pytest.mark.parametrize("definition", definitions_in(milepost_basics), ids=lambda one: one.type)
def test_what_a_handler_announces_the_gateway_can_hold_params_against(definition):
    """The handler's model and the announced schema refuse the same typo."""
    announced = definition.announcement()
    known = KnownType(announced, jsonschema_rs.Draft202012Validator(announced.params_schema))
    with pytest.raises(Exception, match="params"):
        known.check({"a_typo": 1})
    with pytest.raises(ValueError, match="a_typo"):
        definition.params.model_validate({"a_typo": 1})


def test_the_gateway_answers_within_the_promised_time():
    """2 s for the confirm leave half a second for everything else of the promised 2.5 s."""
    assert CONFIRM_WITHIN <= 2.0
