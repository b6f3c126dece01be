"""Time in which no handler could run, because one held the interpreter, is not charged to the others."""

import threading
import time
from datetime import timedelta

import pytest
from fake_files import FakeFiles
from samples import SUBMITTED
from structlog.testing import capture_logs

from milepost import Run
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_processor.core.execution import Execution
from milepost_processor.core.held_interpreter import HeldInterpreter, thread_time

HOUR = timedelta(hours=1)


def execution(job_id, thread):
    job = SUBMITTED.model_copy(update={"id": job_id, "delivery": 1, "execution": "aaaaaaaa", "max_runtime": HOUR})
    made = Execution(job, JobSubmitted(job=SUBMITTED), Run(job_id=job.id), FakeFiles().outputs(job))
    made._thread = thread
    return made


def hours(made):
    """Return how many hours an execution has left."""
    return round(made.remaining / HOUR.total_seconds(), 2)


@pytest.fixture
def times():
    """The processor time of threads."""
    return {1: 0.0, 2: 0.0}


@pytest.fixture
def held(times):
    return HeldInterpreter(thread_time=times.__getitem__)


def test_the_others_get_back_the_time_for_which_a_handler_held_the_interpreter(held, times):
    """It is the one that computed meanwhile; it is named, and pays."""
    guilty, innocent = execution("guilty", 1), execution("innocent", 2)
    held.check([innocent], 0.0)  # the other has not begun
    times[1] += 2000  # other programs have the processor too
    times[2] += 100
    with capture_logs() as logs:
        held.check([guilty, innocent], 7200)
    assert [1, 3] == [hours(guilty), hours(innocent)]
    assert [(["guilty"], 7200)] == [(line["jobs"], line["seconds"]) for line in logs]


def test_a_handler_that_ran_meanwhile_gets_nothing_back(held, times):
    """Code in C that has released the interpreter goes on while another handler holds it; both are named."""
    executions = [execution("one", 1), execution("other", 2), execution("waits", 3)]
    times[3] = 0.0
    held.check(executions, 0.0)
    times[1] = times[2] = 3600.0
    with capture_logs() as logs:
        held.check(executions, 3600)
    assert [1, 1, 2] == [hours(one) for one in executions]
    assert ["one", "other"] == logs[0]["jobs"]


def test_nobody_gets_more_than_its_limit_again_while_it_is_not_known_who_held_it(held):
    """The process may have been stopped; or a handler held the interpreter and waited."""
    suspects = [execution("a", 1), execution("b", 2)]
    held.check(suspects, 0.0)
    held.check(suspects, 7200)
    held.check(suspects, 7200)
    assert [2, 2] == [hours(one) for one in suspects]


def test_what_a_thread_computed_before_does_not_count(held, times):
    """Only the time since the last check does, and only if the interpreter was held."""
    one, other = execution("one", 1), execution("other", 2)
    held.check([one, other], 0.0)
    times[1] += 7200
    held.check([one, other], 0.5)
    assert [1, 1] == [hours(one), hours(other)]
    held.check([one, other], 60)
    assert [1.02, 1.02] == [hours(one), hours(other)]


def test_the_processor_time_of_a_thread_grows_while_it_computes():
    """A thread that does not exist has none."""
    before = thread_time(threading.get_ident())
    while thread_time(threading.get_ident()) == before:
        time.monotonic()
    assert 0.0 == thread_time(0)
