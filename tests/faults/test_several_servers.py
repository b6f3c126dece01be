"""The main promise on three nodes of RabbitMQ, and a Redis with a replica."""

import pytest
from fault_suite.harm_nodes import MATRIX

__all__ = ["MATRIX"]

# aio-pika 10.2 leaves a coroutine behind if a node is killed while the test checks it.
pytestmark = pytest.mark.filterwarnings("ignore:.*Connection.close:pytest.PytestUnraisableExceptionWarning")


@pytest.mark.timeout(600)
def test_no_accepted_job_is_lost_on_several_servers(fault, seed, nodes, check_fault):
    """Any one node may fail; if all three are killed, no accepted job is lost."""
    check_fault(fault, seed, nodes)
