"""Any part of the process that has ended by itself is noticed."""

from types import SimpleNamespace

import pytest

from milepost_processor.bootstrap import _dead_parts


@pytest.fixture
def parts():
    def alive():
        return SimpleNamespace(is_alive=lambda: True)

    return {
        "worker": SimpleNamespace(workers=[alive(), alive()], consumers={"a": alive(), "b": alive()}, flow=alive()),
        "watchdog": SimpleNamespace(is_alive=True, broken=None),
        "resume_keeper": SimpleNamespace(is_alive=True),
        "loop": SimpleNamespace(is_alive=True),
        "publisher": SimpleNamespace(is_alive=True, broken=None),
        "health": SimpleNamespace(is_alive=True),
    }


def test_a_process_whose_parts_are_alive_goes_on(parts):
    """Otherwise, it would never run."""
    assert [] == _dead_parts(**parts)


@pytest.mark.parametrize(
    "part, found",
    [
        ("watchdog", "the watchdog has ended"),
        ("loop", "the event loop of the async handlers has ended"),
        ("publisher", "the event publisher has ended"),
        ("health", "the health server has ended"),
    ],
)
def test_a_part_that_has_ended_is_named(parts, part, found):
    """Without it, the process would look healthy and not keep its promises."""
    parts[part].is_alive = False
    assert [found] == _dead_parts(**parts)


@pytest.mark.parametrize(
    "thread, found", [("workers", "a worker thread has ended"), ("consumers", "a consumer thread has ended")]
)
def test_one_thread_of_many_that_has_ended_is_enough(parts, thread, found):
    """It held a slot, or a queue."""
    worker = parts["worker"]
    ended = worker.workers[1] if thread == "workers" else worker.consumers["b"]
    ended.is_alive = lambda: False
    assert [found] == _dead_parts(**parts)


def test_a_processor_without_flow_control_has_ended(parts):
    """It would consume nothing, or too much."""
    parts["worker"].flow.is_alive = lambda: False
    assert ["the flow control has ended"] == _dead_parts(**parts)


@pytest.mark.parametrize("part", ["watchdog", "publisher"])
def test_a_part_that_runs_and_can_not_work_has_a_reason(parts, part):
    """The event loop is blocked for good, or a queue has other arguments."""
    parts[part].broken = "why"
    assert ["why"] == _dead_parts(**parts)
