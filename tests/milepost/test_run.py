"""`Run`: what a handler reads and reports."""

import os
import pickle
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from milepost import Canceled, Interrupted, Run, job
from milepost.meter import Meter, eta
from milepost.testing import MemoryOutputs, run_handler
from milepost_contracts.values import MAX_ITEMS, MAX_OUTPUTS, MAX_STATE


@pytest.fixture
def run():
    return Run(job_id="1")


def test_progress_is_the_latest_report(run):
    """Between two reads only the latest progress is kept."""
    run.progress(1, 4, "one", unit="steps")
    run.progress(2, 4, "two", unit="steps")
    progress = run.report().progress
    assert (2, 4, 50.0, "steps", "two") == (
        progress.done,
        progress.total,
        progress.percent,
        progress.unit,
        progress.message,
    )


def test_the_version_changes_with_every_report(run):
    """The event publisher publishes only changes."""
    before = run.version
    assert before == run.version
    run.progress(1)
    assert before != run.version


@given(st.floats() | st.integers(), st.none() | st.floats() | st.integers(), st.none() | st.text(st.characters()))
def test_any_reported_number_fits_an_event(done, total, message):
    """NaN, infinite and negative numbers, or more than the total, do not fail the job."""
    run = Run(job_id="1")
    run.progress(done, total, message)
    percent = run.report().progress.percent
    assert percent is None or 0 <= percent <= 100


@pytest.mark.parametrize("total", [float("nan"), float("inf"), float("-inf")])
def test_a_total_that_is_no_number_is_unknown(run, total):
    """A job of which nobody knows the size shows no percentage; one below `done` counts as `done`."""
    run.progress(1, total)
    progress = run.report().progress
    expected = (1, 1, 100.0) if total < 0 else (1, None, None)
    assert expected == (progress.done, progress.total, progress.percent)


@pytest.mark.parametrize("done, expected", [(10**400, 2**53), (-(10**400), 0), (Decimal("1e400"), 2**53)])
def test_a_count_beyond_all_floats_counts_as_the_largest(run, done, expected):
    """It fails neither the handler nor the event."""
    run.progress(done, 10**500)
    run.progress(Fraction(done), Fraction(10**500))
    assert expected == run.report().progress.done


def test_the_rate_excludes_the_work_of_earlier_attempts(run, monkeypatch):
    """It is measured from the first report on."""
    at = iter([10.0, 10.0, 20.0])
    monkeypatch.setattr("milepost.run.time.monotonic", lambda: next(at))
    run.progress(900, 1000)
    assert not run.report().progress.rate
    run.progress(920, 1000)
    progress = run.report().progress
    assert (2.0, 40.0) == (progress.rate, progress.eta_seconds)


def test_track_reports_each_unit_once_it_is_done(run):
    """The current unit counts as done when the loop asks for the next one."""
    seen = [(unit, run.report().progress.done) for unit in run.track(["a", "b"], unit="letters")]
    assert [("a", 0), ("b", 1)] == seen
    assert 100.0 == run.report().progress.percent


def test_track_of_an_endless_source_reports_without_a_total(run):
    """It reports the count without total, percent and ETA."""
    for n in run.track(iter(range(100))):
        if n == 3:
            break
    progress = run.report().progress
    assert (3, None, None, None) == (progress.done, progress.total, progress.percent, progress.eta_seconds)


def test_all_items_are_counted_and_the_latest_are_kept(run):
    """A job may emit more items than a document shows."""
    for n in range(MAX_ITEMS + 5):
        run.emit({"n": n})
    items = run.report().items
    assert items.count == MAX_ITEMS + 5
    assert tuple({"n": n} for n in range(5, MAX_ITEMS + 5)) == items.last


@pytest.mark.parametrize("done", ["abc", None, [], object()])
def test_progress_that_is_not_a_number_raises(run, done):
    """A value that converts to a number is accepted."""
    with pytest.raises((TypeError, ValueError)):
        run.progress(done)
    run.progress(Decimal(1), "4", message=5)
    progress = run.report().progress
    assert (1, 4, "5") == (progress.done, progress.total, progress.message)


@pytest.mark.parametrize("item", [object(), float("nan"), "x" * 3000, {"deep": {1, 2, object()}}])
def test_an_item_that_does_not_fit_an_event_is_refused(run, item):
    """`emit` raises, so that the traceback shows the line."""
    with pytest.raises(ValueError, match="item"):
        run.emit(item)
    assert 0 == run.report().items.count


@pytest.mark.parametrize("reason", [Canceled(), Interrupted()])
def test_a_stopped_run_raises_at_the_next_report_or_checkpoint(run, reason):
    """A handler does not have to check a flag."""
    run.checkpoint()
    run.stop(reason)
    for report in (run.checkpoint, lambda: run.progress(1), lambda: run.emit(1), lambda: next(run.track([1]))):
        with pytest.raises(type(reason)):
            report()


def test_the_first_reason_to_stop_stays(run):
    """If a cancel and a shutdown race, the handler gets only the first."""
    run.stop(Canceled())
    run.stop(Interrupted())
    with pytest.raises(Canceled):
        run.checkpoint()


def test_a_handler_that_catches_exceptions_does_not_catch_the_stop(run):
    """`except Exception` in a handler must not make its job impossible to cancel."""
    run.stop(Canceled())
    assert not issubclass(Canceled, Exception)


def test_a_steady_rate_is_exact_from_the_first_sample():
    """The first estimate is the plain average and does not start at zero."""
    meter = Meter(started=0.0)
    rates = [meter.sample(10.0 * t, float(t)) for t in range(1, 30)]
    assert all(rate == pytest.approx(10.0) for rate in rates)
    assert 7.0 == eta(30, 100, 10.0)


def test_the_rate_follows_a_change_of_speed_within_seconds():
    """Old samples weigh little."""
    meter = Meter(started=0.0)
    for t in range(1, 60):
        meter.sample(10.0 * t, float(t))
    done, rate = 590.0, None
    for t in range(60, 80):
        done += 1
        rate = meter.sample(done, float(t))
    assert rate == pytest.approx(1.0, abs=0.5)


def test_a_count_that_decreases_starts_a_new_rate():
    """A rate over two unrelated counts would be meaningless."""
    meter = Meter(started=0.0)
    meter.sample(100, 1.0)
    assert meter.sample(0, 2.0) is None
    assert 5.0 == meter.sample(5, 3.0)


@pytest.mark.parametrize("total, rate", [(None, 1.0), (10, None), (10, 0.0)])
def test_there_is_no_eta_without_a_total_and_a_rate(total, rate):
    """No ETA is shown instead of a guess."""
    assert eta(1, total, rate) is None


def test_saved_state_is_what_json_makes_of_it():
    """The next attempt gets it; a state that is too large or has no JSON form is refused by `save`."""
    run = Run(job_id="x", saved_state={"at": 1})
    assert {"at": 1} == run.saved_state
    run.save((1, 2))
    assert [1, 2] == run.saved_state
    for state in ("x" * MAX_STATE, object(), float("nan")):
        with pytest.raises(ValueError, match="a saved state"):
            run.save(state)
    assert [1, 2] == run.saved_state


def test_what_a_handler_changes_later_is_not_saved(run):
    """Another thread stores the state: it must be the one that was saved."""
    state = {"rows": [1]}
    run.save(state)
    state["rows"].append(2)
    run.saved_state["rows"].append(3)
    assert b'{"rows":[1]}' == run.saved.encoded
    before = run.saved.number
    run.save(state)
    assert (before + 1, b'{"rows":[1,2]}') == (run.saved.number, run.saved.encoded)


def test_the_state_is_loaded_when_it_is_first_read():
    """A large one comes from the blob storage: a handler that does not read it doesn't wait for that."""
    loads = []
    run = Run(job_id="x", saved_state=lambda: loads.append(1) or {"at": 7})
    assert [] == loads
    assert ({"at": 7}, {"at": 7}, [1]) == (run.saved_state, run.saved_state, loads)


def test_saving_is_a_checkpoint():
    """What is saved at the stop is kept."""
    run = Run(job_id="x")
    run.stop(Interrupted())
    with pytest.raises(Interrupted):
        run.save(7)
    assert 7 == run.saved_state


class Nothing(BaseModel):
    """No params."""


def test_run_handler_returns_the_files_that_the_handler_writes():
    """They are bytes by name."""

    @job("writer")
    def writer(params: Nothing, run: Run) -> None:
        with run.create("out/a.txt") as file:
            file.write(b"hello")

    assert {"out/a.txt": b"hello"} == run_handler(writer, {}).outputs


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "C:\\x", "a\nb", "a\0", "x" * 256, "."]
)
def test_an_output_name_that_is_not_a_relative_path_is_refused(name):
    """It is refused before anything is written."""
    with pytest.raises(ValueError, match="relative path"):
        Run(job_id="1", outputs=MemoryOutputs()).create(name)


def test_output_names_are_unique_and_limited_in_number():
    """Every event of the job carries them."""
    run = Run(job_id="1", outputs=MemoryOutputs())
    run.create("0")
    with pytest.raises(ValueError, match="already"):
        run.create("0")
    for number in range(1, MAX_OUTPUTS):
        run.create(str(number))
    with pytest.raises(ValueError, match="limit of 100 files"):
        run.create("one more")


def test_the_files_of_earlier_attempts_count_unless_they_are_replaced():
    """All of them are the job's outputs."""
    run = Run(job_id="1", outputs=MemoryOutputs(), earlier_outputs=map(str, range(MAX_OUTPUTS)))
    run.create("7")
    with pytest.raises(ValueError, match="limit of 100 files"):
        run.create("one more")


@pytest.mark.parametrize("kind", ["text/€", "x\r\nSet-Cookie: y", "csv", " text/csv"])
def test_an_invalid_media_type_is_refused(kind):
    """It becomes a header of every download."""
    with pytest.raises(ValueError, match="media type"):
        Run(job_id="1", outputs=MemoryOutputs()).create("a", media_type=kind)


def test_a_run_has_only_one_result():
    """A second one would silently replace the first."""
    run = Run(job_id="1", outputs=MemoryOutputs())
    run.create("a", as_result=True)
    with pytest.raises(ValueError, match="result already"):
        run.create("b", as_result=True)


@pytest.mark.parametrize("what", [lambda run: run, lambda run: run.progress, lambda run: {"runs": [run]}])
def test_a_run_is_not_sent_to_another_process(run, what):
    """`pool.map(work, [run])` says what to do instead."""
    with pytest.raises(TypeError, match="can't be sent to another process: report from the handler's own process"):
        pickle.dumps(what(run))


FORK = """
import os
from milepost import Run
from milepost.testing import MemoryOutputs

run = Run(job_id="1", outputs=MemoryOutputs())
run.progress(1)
run._items_lock.acquire()  # by another thread of the parent
if os.fork() == 0:
    calls = [lambda: run.progress(2), lambda: next(run.track([1])), lambda: run.save(1), run.checkpoint,
             lambda: run.create("a"), lambda: run.subprocess(["true"]), lambda: run.emit(1)]
    for call in calls:
        try:
            call()
        except RuntimeError as error:
            print(error, flush=True)
    Run(job_id="2").progress(1)
    os._exit(0)
os.wait()
run._items_lock.release()
run.progress(3)
print(run.report().progress.done)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_report_in_a_forked_process_raises():
    """It would vanish silently. The parent's run, and runs that the child creates, are not affected."""
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert 7 * ["what a forked process reports does not reach the job: report from the handler's own process"] == [
        line.partition(", for")[0] for line in lines[:-1]
    ]
    assert "3" == lines[-1]
