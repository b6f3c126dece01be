"""The publisher without a broker. Tests with a broker: tests/integration/test_publisher.py."""

import pytest

from milepost_contracts.messages.topology import Topology
from milepost_rabbit.errors import NotAccepted, RabbitError, TopologyMismatch
from milepost_rabbit.link import Link
from milepost_rabbit.publisher import RabbitPublisher

JOBS = Topology(namespace="test").jobs
URL = "amqp://someone:secret@127.0.0.1:1/"


async def declare_nothing(connection):
    """Declare no queue and no exchange."""


async def test_a_publish_without_a_connection_raises_not_accepted_in_time():
    """The message was never sent, so it is certainly not stored."""
    publisher = RabbitPublisher(URL, name="test")
    with pytest.raises(NotAccepted, match="not connected"):
        await publisher.publish(JOBS, "a.b", b"{}", correlation_id="1", within=0.05)


async def test_a_link_has_the_user_of_its_url():
    """Messages carry it as their user id; the broker refuses a forged one."""
    assert "someone" == Link(URL, name="test", on_connect=declare_nothing).user


def test_every_error_is_a_rabbit_error():
    """A caller can catch `RabbitError` for all of them."""
    assert issubclass(NotAccepted, RabbitError)
    assert issubclass(TopologyMismatch, RabbitError)
