"""A processor that waits for RabbitMQ can be asked whether it is ready, and to stop."""

from pathlib import Path

import pytest
from waiting import wait_until

from milepost_stack import processes, services
from milepost_stack.free_ports import any_port

SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture
def state(tmp_path):
    """A processor whose RabbitMQ does not answer; killed after the test if it still runs."""
    settings = {
        "PYTHONPATH": str(SUPPORT),
        "MILEPOST_HANDLERS": "hostile_jobs",
        "MILEPOST_RABBITMQ_URL": f"amqp://milepost-processor:secret@127.0.0.1:{any_port()}/",
        "MILEPOST_BLOBS_URL": tmp_path.as_uri(),
    }
    state = services.background("processor", 1, tmp_path, settings)
    child = processes.start(state)
    yield state
    if child.poll() is None:
        child.kill()
    child.wait()


def test_a_processor_that_waits_for_rabbitmq_is_alive_not_ready_and_stops_at_once(state):
    """It has started nothing that it would have to wait for."""
    wait_until(lambda: processes.answers(f"{state.url}/livez"), within=30, what="it is alive")
    wait_until(lambda: "waiting_for_rabbitmq" in processes.tail(state.log), within=10, what="it waits")
    assert not processes.answers(f"{state.url}/readyz")
    found = processes.find(state)
    found.terminate()
    assert 0 == found.wait(10)
