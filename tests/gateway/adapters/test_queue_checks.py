"""Which queues count as full, without a broker. With one: tests/integration/test_gateway_broker.py."""

from milepost_contracts.messages.topology import MAX_QUEUE_LENGTH, Topology
from milepost_gateway.adapters.queue_checks import FALLEN, FULL, TRY_AGAIN_AFTER, FullQueues

TOPOLOGY = Topology()
WORK = TOPOLOGY.work("cpu")
NEARLY_FULL = int(FULL * MAX_QUEUE_LENGTH)


def test_a_nearly_full_queue_is_full():
    """Refused before the publish, nothing is stored: else the job would be listed as queued, and never run."""
    full = FullQueues()
    assert not full.is_full(WORK, ready=NEARLY_FULL - 1, at=0)
    assert full.is_full(WORK, ready=NEARLY_FULL, at=0)


def test_a_queue_without_a_limit_is_never_full():
    """The log and the webhooks' queue refuse nothing."""
    for queue in (TOPOLOGY.log, TOPOLOGY.webhook_queue):
        assert not FullQueues().is_full(queue, ready=10 * MAX_QUEUE_LENGTH, at=0)


def test_a_queue_that_refused_is_full_until_it_is_shorter():
    """A policy may limit it to less than its own maximum length."""
    full = FullQueues()
    full.note_refusal(WORK.name, at=0)
    assert full.is_full(WORK, ready=100, at=0)
    assert full.is_full(WORK, ready=int(FALLEN * 100), at=1)
    assert not full.is_full(WORK, ready=int(FALLEN * 100) - 1, at=2)
    assert not full.is_full(WORK, ready=100, at=2), "the refusal is forgotten"
    assert not full.is_full(TOPOLOGY.work("default"), ready=100, at=0), "another queue takes messages"


def test_a_queue_that_refused_is_tried_again_after_a_while():
    """Its limit may have been raised, and another queue may have refused: an empty one can't become shorter."""
    for ready in (0, 100):
        full = FullQueues()
        full.note_refusal(WORK.name, at=0)
        assert full.is_full(WORK, ready=ready, at=TRY_AGAIN_AFTER - 1)
        assert not full.is_full(WORK, ready=ready, at=TRY_AGAIN_AFTER)
