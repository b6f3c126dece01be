"""A queue that exists with other arguments is described: what exists, against what is expected."""

import pytest

from milepost_rabbit.declare import _difference

REPLY = "PRECONDITION_FAILED - inequivalent arg '{}' for {} '{}' in vhost '/': received {} but current is {}"


@pytest.mark.parametrize(
    "argument, kind, received, current, expected",
    [
        ("x-max-length-bytes", "queue", "the value '5' of type 'long'", "none", "none, and 5 is expected"),
        ("x-max-age", "queue", "the value '60s' of type 'longstr'", "the value '7D' of type 'longstr'", "7D, and 60s"),
        ("x-queue-type", "queue", "none", "the value 'stream' of type 'longstr'", "stream, and none is expected"),
        ("type", "exchange", "'topic'", "'fanout'", "fanout, and topic is expected"),
        ("durable", "exchange", "'true'", "'false'", "false, and true is expected"),
    ],
)
def test_the_sentence_has_what_is_expected_and_what_exists(argument, kind, received, current, expected):
    """And what to do."""
    found = _difference(REPLY.format(argument, kind, "milepost.log.jobs", received, current))
    assert f"the {kind} milepost.log.jobs in the vhost / exists with other arguments: {argument} is {expected}" in found
    assert "delete" in found


def test_an_unknown_reply_is_passed_on():
    """A later RabbitMQ may say it in other words."""
    assert "something else" in _difference("something else")
