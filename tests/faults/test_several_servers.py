"""The promise on three nodes of RabbitMQ, and a Redis with a replica."""

import pytest
from fault_suite.nodes import MATRIX

__all__ = ["MATRIX"]

# What looks at a broker while its node is killed: aio-pika 10.2 leaves a coroutine of its own behind then.
pytestmark = pytest.mark.filterwarnings("ignore:.*Connection.close:pytest.PytestUnraisableExceptionWarning")


@pytest.mark.timeout(600)
def test_several_servers_lose_nothing_either(fault, seed, nodes, held):
    """Any one node may go, and of all three nothing that was accepted is lost."""
    held(fault, seed, nodes)
