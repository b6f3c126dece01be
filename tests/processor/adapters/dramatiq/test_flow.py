"""Flow control: how many messages each consumer may take."""

import threading
from concurrent.futures import Future

import pytest

from milepost_processor.adapters.dramatiq.flow import FlowControl, WorkQueue

THREADS = 4


class FakeConsumer:
    """Records its subscriptions; it has as many messages as the test sets."""

    is_alive = is_idle = True

    def __init__(self, *, messages=0, one_at_a_time=False):
        self.messages = messages
        self.one_at_a_time = one_at_a_time
        self.limit = 1 if one_at_a_time else THREADS
        self.held = self.prefetch = 0

    @property
    def credit(self):
        return self.prefetch

    def subscribe(self, prefetch):
        self.prefetch = prefetch

    def fetch(self):
        fetched = Future()
        fetched.set_result(self.messages > 0)
        if self.messages:
            self.messages -= 1
            self.held += 1
        return fetched


@pytest.fixture
def work_queue():
    return WorkQueue(THREADS, threading.Event())


@pytest.fixture
def flow_of(work_queue):
    """Return the flow control of some consumers."""

    def made(*consumers):
        return FlowControl(work_queue, threads=THREADS, consumers=lambda: consumers, changed=threading.Event())

    return made


def test_an_idle_processor_has_room_for_as_many_jobs_as_threads_in_all_its_queues(flow_of):
    """Not as many of each queue. A quarantine queue gets no share: it is nearly always empty."""
    queues = [FakeConsumer(), FakeConsumer(), FakeConsumer(one_at_a_time=True)]
    flow_of(*queues).adjust()
    assert [2, 2, 1] == [one.prefetch for one in queues]


def test_a_processor_without_room_consumes_nothing(flow_of):
    """Whichever queue its jobs came from."""
    busy, other = FakeConsumer(), FakeConsumer()
    busy.held, busy.prefetch, other.prefetch = THREADS, 2, 2
    flow_of(busy, other).adjust()
    assert [0, 0] == [busy.prefetch, other.prefetch]


def test_little_room_is_filled_from_the_queues_in_turn(flow_of):
    """Each has a backlog, and there is room for less than one job of each."""
    queues = [FakeConsumer(messages=9) for _ in range(3)]
    flow = flow_of(*queues)
    queues[0].held = THREADS - 1
    queues[0].messages = 0
    for _ in range(3):
        flow.adjust()
        assert THREADS == sum(one.held for one in queues)
        queues[0].held -= 1
    assert {1, 2} == {queues[1].held, queues[2].held}


def test_an_empty_queue_is_listened_to_while_there_is_little_room(flow_of):
    """Its next job needs no poll."""
    queues = [FakeConsumer() for _ in range(THREADS + 1)]
    flow_of(*queues).adjust()
    assert {1} == {one.prefetch for one in queues}


def test_quick_jobs_make_room_and_long_ones_that_end_together_do_not(flow_of, work_queue):
    """A message that is held must be started within a moment."""
    flow = flow_of(FakeConsumer())
    assert THREADS == flow.room()
    work_queue.ended = THREADS
    assert THREADS == flow.room()
    work_queue.ended = 5 * THREADS
    assert 2 * THREADS == flow.room()
