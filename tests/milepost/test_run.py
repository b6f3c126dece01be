"""What a handler can ask and tell."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from milepost import Canceled, Interrupted, Run, job
from milepost.meter import Meter, eta
from milepost.testing import MemoryOutputs, run_handler
from milepost_contracts.values import LAST_ITEMS, MAX_OUTPUTS


@pytest.fixture
def run():
    return Run(job_id="1")


def test_progress_is_what_was_last_reported(run):
    """Between two looks only the newest state counts."""
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


def test_a_look_without_news_is_told_by_the_version(run):
    """The courier publishes only what changed."""
    before = run.version
    assert before == run.version
    run.progress(1)
    assert before != run.version


@given(st.floats() | st.integers(), st.none() | st.floats() | st.integers(), st.none() | st.text(st.characters()))
def test_no_number_that_a_handler_reports_makes_an_event_impossible(done, total, message):
    """NaN, negative, infinite, more than there is: a job does not fail for how it counts."""
    run = Run(job_id="1")
    run.progress(done, total, message)
    percent = run.report().progress.percent
    assert percent is None or 0 <= percent <= 100


def test_what_an_earlier_attempt_has_done_is_no_speed_of_this_one(run, monkeypatch):
    """The rate is measured from the first report on."""
    at = iter([10.0, 10.0, 20.0])
    monkeypatch.setattr("milepost.run.time.monotonic", lambda: next(at))
    run.progress(900, 1000)
    assert not run.report().progress.rate
    run.progress(920, 1000)
    progress = run.report().progress
    assert (2.0, 40.0) == (progress.rate, progress.eta_seconds)


def test_track_reports_each_unit_once_it_is_done(run):
    """The loop variable is under way until the loop asks for the next."""
    seen = [(unit, run.report().progress.done) for unit in run.track(["a", "b"], unit="letters")]
    assert [("a", 0), ("b", 1)] == seen
    assert 100.0 == run.report().progress.percent


def test_track_of_an_endless_source_reports_without_a_total(run):
    """No total, no percent, no ETA; a count all the same."""
    for n in run.track(iter(range(100))):
        if n == 3:
            break
    progress = run.report().progress
    assert (3, None, None, None) == (progress.done, progress.total, progress.percent, progress.eta_seconds)


def test_items_are_all_counted_and_the_latest_shown(run):
    """A job may emit more than a document shows."""
    for n in range(LAST_ITEMS + 5):
        run.emit({"n": n})
    items = run.report().items
    assert items.count == LAST_ITEMS + 5
    assert tuple({"n": n} for n in range(5, LAST_ITEMS + 5)) == items.last


@pytest.mark.parametrize("done", ["abc", None, [], object()])
def test_progress_that_is_no_number_is_the_handlers_mistake(run, done):
    """Told where it was made; what only resembles a number is taken as one."""
    with pytest.raises((TypeError, ValueError)):
        run.progress(done)
    run.progress(Decimal(1), "4", message=5)
    progress = run.report().progress
    assert (1, 4, "5") == (progress.done, progress.total, progress.message)


@pytest.mark.parametrize("item", [object(), float("nan"), "x" * 3000, {"deep": {1, 2, object()}}])
def test_an_item_that_can_not_travel_is_refused(run, item):
    """With an error where it was made, not somewhere on the way."""
    with pytest.raises(ValueError, match="item"):
        run.emit(item)
    assert 0 == run.report().items.count


@pytest.mark.parametrize("reason", [Canceled(), Interrupted()])
def test_a_stopped_run_raises_at_the_next_report_or_checkpoint(run, reason):
    """A handler needs no flag of its own."""
    run.checkpoint()
    run.stop(reason)
    for report in (run.checkpoint, lambda: run.progress(1), lambda: run.emit(1), lambda: next(run.track([1]))):
        with pytest.raises(type(reason)):
            report()


def test_the_first_reason_to_stop_stays(run):
    """Cancel and shutdown may race: one of them is told."""
    run.stop(Canceled())
    run.stop(Interrupted())
    with pytest.raises(Canceled):
        run.checkpoint()


def test_a_handler_that_catches_exceptions_does_not_catch_the_stop(run):
    """`except Exception` around a step must not make a job impossible to cancel."""
    run.stop(Canceled())
    assert not issubclass(Canceled, Exception)


def test_a_steady_rate_is_found_at_once():
    """The first estimate is the plain average, not a slow climb from nothing."""
    meter = Meter(started=0.0)
    rates = [meter.sample(10.0 * t, float(t)) for t in range(1, 30)]
    assert all(rate == pytest.approx(10.0) for rate in rates)
    assert 7.0 == eta(30, 100, 10.0)


def test_a_change_of_speed_shows_within_seconds():
    """What was long ago counts little."""
    meter = Meter(started=0.0)
    for t in range(1, 60):
        meter.sample(10.0 * t, float(t))
    done, rate = 590.0, None
    for t in range(60, 80):
        done += 1
        rate = meter.sample(done, float(t))
    assert rate == pytest.approx(1.0, abs=0.5)


def test_a_handler_that_starts_over_gets_a_new_rate():
    """A rate over two unrelated counts would say nothing."""
    meter = Meter(started=0.0)
    meter.sample(100, 1.0)
    assert meter.sample(0, 2.0) is None
    assert 5.0 == meter.sample(5, 3.0)


@pytest.mark.parametrize("total, rate", [(None, 1.0), (10, None), (10, 0.0)])
def test_there_is_no_eta_without_total_and_speed(total, rate):
    """Nothing is shown rather than a guess."""
    assert eta(1, total, rate) is None


def test_what_was_saved_is_there_for_the_next_attempt():
    """As a reader of JSON would see it; what can't be kept is refused where it is saved."""
    run = Run(job_id="x", saved_state={"at": 1})
    assert {"at": 1} == run.saved_state
    run.save((1, 2))
    assert [1, 2] == run.saved_state
    for state in ("x" * 40_000, object(), float("nan")):
        with pytest.raises(ValueError, match="a saved state"):
            run.save(state)
    assert [1, 2] == run.saved_state


def test_saving_is_a_checkpoint():
    """What was saved before the stop is kept."""
    run = Run(job_id="x")
    run.stop(Interrupted())
    with pytest.raises(Interrupted):
        run.save(7)
    assert 7 == run.saved_state


class Nothing(BaseModel):
    """No params."""


def test_a_handler_writes_files_and_its_test_sees_them():
    """By name, as bytes."""

    @job("writer")
    def writer(params: Nothing, run: Run) -> None:
        with run.create("out/a.txt") as file:
            file.write(b"hello")

    assert {"out/a.txt": b"hello"} == run_handler(writer, {}).outputs


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "C:\\x", "a\nb", "a\0", "x" * 256, "."]
)
def test_a_name_that_is_no_relative_path_is_refused(name):
    """At once, and before anything is written."""
    with pytest.raises(ValueError, match="relative path"):
        Run(job_id="1", outputs=MemoryOutputs()).create(name)


def test_a_handler_writes_no_two_files_of_one_name_and_not_too_many():
    """Every event of the job carries their names."""
    run = Run(job_id="1", outputs=MemoryOutputs())
    run.create("0")
    with pytest.raises(ValueError, match="already"):
        run.create("0")
    for number in range(1, MAX_OUTPUTS):
        run.create(str(number))
    with pytest.raises(ValueError, match="100 files are the most"):
        run.create("one more")


@pytest.mark.parametrize("kind", ["text/€", "x\r\nSet-Cookie: y", "csv", " text/csv"])
def test_what_is_no_media_type_is_refused(kind):
    """It becomes a header of every download."""
    with pytest.raises(ValueError, match="media type"):
        Run(job_id="1", outputs=MemoryOutputs()).create("a", media_type=kind)


def test_a_run_has_one_result():
    """A second one would replace the first silently."""
    run = Run(job_id="1", outputs=MemoryOutputs())
    run.create("a", as_result=True)
    with pytest.raises(ValueError, match="result already"):
        run.create("b", as_result=True)
