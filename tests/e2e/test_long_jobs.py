"""Jobs longer than RabbitMQ's consumer time-out: five seconds here, half an hour by default."""

import json
from pathlib import Path
from secrets import token_hex

import pytest
from broker_control import evaluate
from waiting import wait_until

from milepost_client import Client
from milepost_stack import processes
from milepost_stack.errors import StartFailed

CHAOS = Path(__file__).parent.parent / "faults"
FIVE_SECONDS = (
    "application:set_env(rabbit,consumer_timeout,5000), application:set_env(rabbit,channel_tick_interval,1000)"
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return tmp_path_factory.mktemp("long") / "ledger.jsonl"


@pytest.fixture(scope="module")
def stack(start_stack, ledger):
    """A stack whose broker requeues every unacknowledged delivery after five seconds, unknown to the processor."""
    settings = {"PYTHONPATH": str(CHAOS), "CHAOS_LEDGER": str(ledger), "MILEPOST_HANDLERS": "chaos_jobs"}
    made = start_stack("long", gateways=1, processors=1, trackers=1, settings=settings)
    evaluate(made, FIVE_SECONDS)
    made.restart("processor-1")
    yield made
    made.down()


def events_of(ledger, handle):
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [line["what"] for line in lines if line["job_id"] == handle.id]


def test_a_job_longer_than_the_consumer_timeout_runs_once(stack, ledger):
    """The broker redelivers it several times; its claim is alive, so no other delivery starts it."""
    with Client(stack.state.url) as client:
        handle = client.submit("chaos", {"nonce": token_hex(4), "milliseconds": 18_000})
        document = handle.wait(timeout=60)
    assert ("succeeded", 1) == (document.status, document.attempt)
    assert ["start", "finish"] == events_of(ledger, handle)
    assert "job_skipped" in stack.log_of("processor-1").read_text(), "it was redelivered"


@pytest.fixture
def too_short(stack):
    """Set the processor's consumer time-out to five seconds; restore it after the test."""
    state = stack.state
    process = state.process("processor-1")
    before = dict(process.environment)
    processes.stop(process)
    process.environment["MILEPOST_CONSUMER_TIMEOUT"] = "5"
    state.save(stack.folder)
    yield process
    state = stack.state
    state.process("processor-1").environment = before
    state.save(stack.folder)
    stack.restart("processor-1")


def test_a_processor_does_not_start_with_a_too_short_consumer_timeout(stack, too_short):
    """One sentence and exit code 2: the configured consumer time-out is shorter than a job's `max_runtime`."""
    with pytest.raises(StartFailed, match="redelivers a job after its consumer_timeout") as error:
        stack.restart("processor-1")
    assert "Raise it in rabbitmq.conf" in str(error.value)
    wait_until(lambda: processes.find(too_short) is None, within=5, what="it has ended")
