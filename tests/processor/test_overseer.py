"""What runs is watched: time, cancel, and who else has the job."""

import threading
from datetime import timedelta

import pytest
from fake_files import FakeFiles
from samples import SUBMITTED

from milepost import Canceled, Run, Superseded, TimedOut
from milepost_contracts.events import JobSubmitted
from milepost_processor.execution import Execution
from milepost_processor.overseer import Overseer

SOON = timedelta(microseconds=1)


def execution(**changes):
    job = SUBMITTED.model_copy(update={"turn": 1, "execution": "aaaaaaaa", **changes})
    return Execution(job, JobSubmitted(job=SUBMITTED), Run(job_id=job.id), FakeFiles().outputs(job))


@pytest.fixture
def watch(gate):
    """An overseer of these executions, and the threads that it raised in."""
    raised = []

    def make(*executions, grace=timedelta(0)):
        return Overseer(lambda: executions, gate=gate, grace=grace, raise_in=raised.append), raised

    return make


def test_an_attempt_that_takes_too_long_is_told_to_stop(watch):
    """By the `max_runtime` of its type."""
    late, timely = execution(max_runtime=SOON), execution()
    overseer, _ = watch(late, timely)
    overseer.look()
    assert (TimedOut, None) == (type(late.run.stopped), timely.run.stopped)


def test_the_first_reason_to_stop_stays(watch):
    """A cancel of what has timed out already is too late."""
    late = execution(max_runtime=SOON)
    overseer, _ = watch(late)
    overseer.look()
    late.stop(Canceled())
    assert TimedOut is type(late.run.stopped)


def test_who_does_not_stop_is_forced_once_and_only_while_it_runs(watch):
    """In the thread of its handler; never after the handler has returned."""
    one = execution()
    overseer, raised = watch(one, grace=SOON)
    overseer.look()
    assert [] == raised, "nobody asked it to stop"
    one.stop(Canceled())
    overseer.look()
    assert ([], False) == (raised, one.forced), "no handler runs"
    with one.on_this_thread():
        overseer.look()
        overseer.look()
    assert ([threading.get_ident()], True) == (raised, one.forced)


def test_the_grace_time_is_given(watch):
    """A handler may need a while to clean up."""
    one = execution()
    overseer, raised = watch(one, grace=timedelta(hours=1))
    one.stop(Canceled())
    with one.on_this_thread():
        overseer.look()
    assert [] == raised


def test_what_the_gate_says_reaches_what_runs(watch, gate):
    """Canceled, or another's: noticed a second later, should the control exchange have brought nothing."""
    mine, canceled, stale = execution(), execution(id="canceled"), execution(id="stale")
    for one in (mine, canceled, stale):
        gate.claim(one.job.model_copy(update={"turn": 0}), turn=1, execution="aaaaaaaa", worker="w")
    gate.canceled.add(("canceled", 1))
    gate.claim(stale.job, turn=2, execution="bbbbbbbb", worker="w")
    overseer, _ = watch(mine, canceled, stale)
    overseer.ask()
    stops = [type(one.run.stopped) for one in (mine, canceled, stale)]
    assert [type(None), Canceled, Superseded] == stops


def test_a_gate_that_is_away_stops_nothing(watch, gate):
    """Redis decides nothing by its absence."""
    one = execution()
    overseer, _ = watch(one)
    gate.away_for = 1
    overseer.ask()
    assert one.run.stopped is None
