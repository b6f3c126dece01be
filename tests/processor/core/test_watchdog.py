"""The watchdog stops runs that time out, are canceled or are superseded."""

import threading
from datetime import timedelta

import pytest
import structlog
from fake_files import FakeFiles
from fake_loop import FakeLoop
from samples import JUST_SUBMITTED

from milepost import Canceled, Run, Superseded, TimedOut
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_processor import metrics
from milepost_processor.core.execution import Execution
from milepost_processor.core.watchdog import Watchdog

SOON = timedelta(microseconds=1)


def execution(**changes):
    job = JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa", **changes})
    return Execution(job, JobSubmitted(job=JUST_SUBMITTED), Run(job_id=job.id), FakeFiles().outputs(job))


@pytest.fixture
def create_watchdog(claims):
    """Return a watchdog of the given executions, and the list of threads in which it raised."""
    raised = []

    def make(*executions, grace=timedelta(0)):
        watchdog = Watchdog(
            lambda: executions,
            held=lambda: executions,
            record_confirmed=lambda: None,
            claims=claims,
            loop=FakeLoop(),
            grace=grace,
            raise_in=raised.append,
        )
        return watchdog, raised

    return make


def test_an_attempt_that_exceeds_its_max_runtime_is_stopped(create_watchdog):
    """It gets `TimedOut`; other attempts go on."""
    late, timely = execution(max_runtime=SOON), execution()
    watchdog, _ = create_watchdog(late, timely)
    watchdog.check_limits()
    assert (TimedOut, None) == (type(late.run.stopped), timely.run.stopped)


def test_the_first_reason_to_stop_stays(create_watchdog):
    """A cancel after the timeout has no effect."""
    late = execution(max_runtime=SOON)
    watchdog, _ = create_watchdog(late)
    watchdog.check_limits()
    late.stop(Canceled())
    assert TimedOut is type(late.run.stopped)


def test_a_handler_that_does_not_stop_is_forced_once(create_watchdog):
    """The exception is raised in the thread of the handler, and never after the handler has returned."""
    one = execution()
    watchdog, raised = create_watchdog(one, grace=SOON)
    watchdog.check_limits()
    assert [] == raised, "it was not stopped"
    one.stop(Canceled())
    watchdog.check_limits()
    assert ([], False) == (raised, one.forced), "no handler runs"
    one.guard(lambda: (watchdog.check_limits(), watchdog.check_limits()))
    assert ([threading.get_ident()], True) == (raised, one.forced)


def test_a_handler_that_goes_on_is_forced_again_from_time_to_time_and_named(create_watchdog, monkeypatch):
    """It caught the exception, or cleans up for long: the log and a metric say which type it is."""
    at = Clock()
    monkeypatch.setattr("milepost_processor.core.execution.time", at)
    one = execution()
    watchdog, raised = create_watchdog(one, grace=timedelta(seconds=5))
    one.stop(Canceled())

    def swallow():
        for at.now in (0, 4, 6, 7, 20, 35, 37, 50, 70):
            watchdog.check_limits()

    ignored = metrics.ignored_stops.labels(type=one.job.type)
    before = ignored._value.get()
    with structlog.testing.capture_logs() as logs:
        one.guard(swallow)
    assert 3 == len(raised), "at 6, 37 and 70 seconds"
    assert [
        {"event": "handler_forced", "seconds": 6},
        {"event": "handler_ignores_stop", "seconds": 37},
        {"event": "handler_ignores_stop", "seconds": 70},
    ] == [{"event": line["event"], "seconds": line["seconds"]} for line in logs]
    assert 2 == ignored._value.get() - before
    assert {(one.job.id, one.job.type)} == {(line["job_id"], line["type"]) for line in logs}


class Clock:
    """The clock of an execution."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        pass


def test_a_handler_is_not_forced_within_the_grace_time(create_watchdog):
    """A handler may need time to clean up."""
    one = execution()
    watchdog, raised = create_watchdog(one, grace=timedelta(hours=1))
    one.stop(Canceled())
    one.guard(watchdog.check_limits)
    assert [] == raised


def test_a_renewal_stops_canceled_and_superseded_runs(create_watchdog, claims):
    """It does so within a second if the control exchange did not deliver the cancel."""
    mine, canceled, stale = execution(), execution(id="canceled"), execution(id="stale")
    for one in (mine, canceled, stale):
        claims.claim(one.job.model_copy(update={"delivery": 0}), delivery=1, execution="aaaaaaaa", worker="w")
    claims.canceled.add(("canceled", 1))
    claims.claim(stale.job, delivery=2, execution="bbbbbbbb", worker="w")
    watchdog, _ = create_watchdog(mine, canceled, stale)
    watchdog.renew_claims()
    stops = [type(one.run.stopped) for one in (mine, canceled, stale)]
    assert [type(None), Canceled, Superseded] == stops


def test_unavailable_claims_stop_no_run(create_watchdog, claims):
    """An outage of Redis decides nothing."""
    one = execution()
    watchdog, _ = create_watchdog(one)
    claims.failing_calls = 1
    watchdog.renew_claims()
    assert one.run.stopped is None
