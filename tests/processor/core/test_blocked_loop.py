"""An async handler that blocks the event loop is named and, if it does not stop, forced; the others do not pay."""

from datetime import timedelta

import pytest
from fake_files import FakeFiles
from fake_loop import FakeLoop
from samples import SUBMITTED
from structlog.testing import capture_logs

from milepost import Canceled, Run, TimedOut
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_processor.core.async_call import AsyncCall
from milepost_processor.core.blocked_loop import BlockedLoop
from milepost_processor.core.execution import Execution

HOUR = timedelta(hours=1)
GRACE = 2.0


def execution(job_id, *, is_async=True):
    job = SUBMITTED.model_copy(update={"id": job_id, "delivery": 1, "execution": "aaaaaaaa", "max_runtime": HOUR})
    made = Execution(job, JobSubmitted(job=SUBMITTED), Run(job_id=job.id), FakeFiles().outputs(job))
    if is_async:
        made._async_call = AsyncCall(None)
    return made


def hours(made):
    """Return how many hours an execution has left."""
    return round(made.remaining / HOUR.total_seconds(), 2)


@pytest.fixture
def loop():
    return FakeLoop()


@pytest.fixture
def raised():
    return []


@pytest.fixture
def watched(loop, raised):
    made = BlockedLoop(loop, grace=timedelta(seconds=GRACE), raise_in=raised.append)
    loop.beats += 1
    made.check([], 0.1)
    return made


def block(watched, executions, seconds):
    """Let the loop not run for so long."""
    for _ in range(round(seconds)):
        watched.check(executions, 1.0)


def test_the_time_of_a_blocked_loop_is_given_back_to_all_but_the_handler_that_blocks_it(loop, watched):
    """Their time limit is for their own work; handlers that are not async go on."""
    guilty, innocent, other = execution("guilty"), execution("innocent"), execution("sync", is_async=False)
    loop.job_id = "guilty"
    block(watched, [guilty, innocent, other], 7200)
    assert [1, 3, 1] == [hours(guilty), hours(innocent), hours(other)]
    assert [7200, 0] == [guilty.blocked_loop, innocent.blocked_loop]


def test_nobody_gets_more_than_its_limit_again_while_it_is_not_known_who_blocks(loop, watched):
    """It may be each of them: a callback belongs to no task."""
    suspects = [execution("a"), execution("b")]
    block(watched, suspects, 7200)
    assert [2, 2] == [hours(one) for one in suspects]


def test_a_loop_that_runs_is_not_blocked(loop, watched):
    """However many times it was late for a moment."""
    one = execution("one")
    for _ in range(100):
        watched.check([one], 0.4)
        loop.beats += 1
        watched.check([one], 0.1)
    assert (1, 0) == (hours(one), one.blocked_loop)


def test_a_handler_that_blocks_is_named_in_the_log(loop, watched):
    """With the line of code, after two seconds, and then ever less often."""
    loop.job_id = "guilty"
    with capture_logs() as logs:
        block(watched, [execution("guilty")], 60)
        loop.beats += 1
        watched.check([], 0.1)
    blocked = [line for line in logs if line["event"] == "async_loop_blocked"]
    assert [2, 10, 50] == [line["seconds"] for line in blocked]
    assert {("guilty", "app.py:20 blocks")} == {(line["job_id"], line["where"]) for line in blocked}
    assert "async_loop_runs_again" == logs[-1]["event"]


@pytest.fixture
def stop(monkeypatch):
    """Ask an execution to stop, so many seconds ago."""

    def stopped(made, reason, seconds):
        made.stop(reason)
        made._stopped_at -= seconds

    return stopped


def test_a_handler_that_blocks_and_does_not_stop_is_forced_in_the_thread_of_the_loop(loop, watched, raised, stop):
    """The cancel of its task would never arrive. If that does not help either, the process can't go on."""
    guilty, innocent = execution("guilty"), execution("innocent")
    loop.job_id = "guilty"
    stop(innocent, Canceled(), 100)
    block(watched, [guilty, innocent], 100)
    assert ([], None) == (raised, watched.broken), "it was not asked to stop"
    stop(guilty, TimedOut(), GRACE + 1)
    block(watched, [guilty, innocent], 2)
    assert ([loop.thread_id], None) == (raised, watched.broken)
    stop(guilty, TimedOut(), GRACE + 5)
    block(watched, [guilty, innocent], 1)
    assert 1 == len(raised)
    assert "job guilty blocks the event loop" in watched.broken
    assert "app.py:20" in watched.broken


def test_a_task_that_a_handler_has_left_behind_is_forced_too(loop, watched, raised):
    """Its job has ended, so nobody would ask it to stop; the others get all of their time back."""
    innocent = execution("innocent")
    loop.job_id = "ended"
    block(watched, [innocent], GRACE)
    assert [] == raised
    block(watched, [innocent], 3)
    assert ([loop.thread_id], None) == (raised, watched.broken)
    block(watched, [innocent], 7200)
    assert "job ended blocks the event loop" in watched.broken
    assert 3 == hours(innocent)
