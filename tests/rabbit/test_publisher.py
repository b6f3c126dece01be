"""The confirmed publisher without a broker; with a real one: tests/integration/test_publisher.py."""

import pytest

from milepost_contracts.topology import Topology
from milepost_rabbit.errors import NotAccepted, RabbitError, TopologyMismatch
from milepost_rabbit.link import Link
from milepost_rabbit.publisher import RabbitPublisher

JOBS = Topology(namespace="test").jobs
URL = "amqp://someone:secret@127.0.0.1:1/"


async def nothing(connection):
    """Set nothing up."""


async def test_a_publish_without_a_connection_is_not_accepted_and_does_not_hang():
    """What was never sent is certainly not stored: that is told, within the time given."""
    publisher = RabbitPublisher(URL, name="test")
    with pytest.raises(NotAccepted, match="not connected"):
        await publisher.publish(JOBS, "a.b", b"{}", correlation_id="1", within=0.05)


async def test_a_link_knows_the_user_that_the_broker_will_see():
    """Messages carry it; the broker refuses a forged one."""
    assert "someone" == Link(URL, name="test", on_connect=nothing).user


def test_every_error_is_a_rabbit_error():
    """One root to catch."""
    assert issubclass(NotAccepted, RabbitError)
    assert issubclass(TopologyMismatch, RabbitError)
