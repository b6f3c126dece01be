"""The fault suite itself: it would detect a fault that did nothing, and a service that contradicts itself."""

from pathlib import Path

import pytest
from fault_suite.executions import Executions
from fault_suite.fault import Fault, Scene
from fault_suite.ledger import Ledger, Seen, Submitted
from fault_suite.previous import NotInHistory, install
from fault_suite.proof import Proof, Vacuous
from fault_suite.receiver import Receiver
from fault_suite.scenario import cause
from fault_suite.streams import Position
from fault_suite.verdict import _gone_early, _wrong_ends


@pytest.mark.parametrize("effects", [{}, {"submissions refused": 0}, {"nodes killed": 2, "submissions refused": 0}])
def test_a_fault_without_an_effect_has_no_proof(effects):
    """Each expected effect must be observed."""
    with pytest.raises(Vacuous, match="did not take hold"):
        Proof(effects)


def test_the_effects_of_repeated_faults_are_added():
    """The table shows the sums."""
    both = Proof({"nodes killed": 2}) + Proof({"nodes killed": 1, "empty Redis": True})
    assert "3 nodes killed, 1 empty Redis" == str(both)


def scene():
    """Return a scene without a cluster."""
    return Scene(cluster=None, load=None, ledger=None, http=None, pace=None, begun_at=0, restarts_before=0)


@pytest.mark.parametrize("returned", [None, 3, "it was killed"])
def test_a_row_that_proves_nothing_fails_as_vacuous(returned):
    """Whatever else holds: the invariants held without the fault."""
    proof, (violation,) = cause(Fault(name="?", act=lambda scene: returned), scene())
    assert proof is None
    assert "vacuous" in violation


def test_what_is_wrong_while_a_fault_holds_is_a_violation():
    """For example a submission that was accepted without a majority; the fault took hold all the same."""

    def act(scene):
        scene.require(held=False, violation="accepted without a majority")
        return Proof({"nodes killed": 2})

    assert (Proof({"nodes killed": 2}), ["accepted without a majority"]) == cause(Fault(name="?", act=act), scene())


def event(name, *, attempt=1, execution="a", run=1):
    """Return an event of a stream."""
    job = {"id": "j", "run": run, "attempt": attempt, "execution": execution}
    return {"type": f"dev.milepost.job.{name}.v1", "data": job}


def contradictions(*events):
    ledger, position = Ledger(Path("none")), Position()
    for one in events:
        position = ledger.read_event(position, one)
    return ledger.contradictions


ATTEMPT = [event("started"), event("progressed"), event("retrying")]
SECOND = [event("started", attempt=2, execution="b"), event("succeeded", attempt=2, execution="b")]


def test_a_stream_in_order_is_no_contradiction():
    """Also if progress was skipped, or an attempt was interrupted and began again."""
    assert not contradictions(event("submitted", attempt=0), *ATTEMPT, *SECOND)
    assert not contradictions(event("started"), event("interrupted"), event("started", execution="b"))
    assert not contradictions(event("progressed"), event("progressed"), event("failed"), event("succeeded"))


@pytest.mark.parametrize(
    "events, problem",
    [
        ([event("progressed"), event("started")], "order"),
        ([event("retrying"), event("progressed")], "order"),
        ([*SECOND, event("started", attempt=2, execution="c")], "had ended"),
        ([event("started", attempt=2), event("progressed", attempt=1)], "attempt went back"),
    ],
)
def test_a_stream_out_of_order_is_a_contradiction(events, problem):
    """The start, the progress, the end, and then the next attempt."""
    (found,) = contradictions(*events)
    assert problem in found


DOCUMENT = {"version": 5, "run": 1, "attempt": 1, "status": "running", "progress": None, "started_at": "t"}


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"version": 4}, "version went back"),
        ({"attempt": 0}, "attempt went back"),
        ({"status": "queued"}, "one version, two states"),
    ],
)
def test_a_document_that_goes_back_is_a_contradiction(change, problem):
    """Whichever reader asks, at whichever gateway."""
    ledger = Ledger(Path("none"))
    ledger.read("j", 200, DOCUMENT, before=Seen())
    assert not ledger.contradictions
    ledger.read("j", 200, DOCUMENT | change, before=ledger.seen("j"))
    assert problem in ledger.contradictions[0]


@pytest.mark.parametrize("code", [404, 410])
def test_an_accepted_job_is_never_unknown(code):
    """The id proves that it was issued, and it is kept after its end."""
    ledger = Ledger(Path("none"))
    ledger.read("j", code, {}, before=Seen())
    assert 1 == len(ledger.contradictions)


def test_a_job_is_kept_for_the_retention_after_its_end():
    """Where retention is short, 410 is right only then; one that was neither run nor canceled must not be gone."""
    executions = Executions()
    ledger = Ledger(Path("none"), may_expire=True)
    for nonce, last_at in (("kept", 91.0), ("gone early", 93.0), ("never ran", 0.0)):
        ledger.note(Submitted(nonce=nonce, behave="well", job_id=nonce, accepted=True), "")
        ledger.gone[nonce] = 100.0
        if last_at:
            executions.last_at[nonce] = last_at
    early, never = _gone_early(ledger, executions, retention=8)
    assert early.startswith("gone early:")
    assert never.startswith("never ran:")


def ended(status, *, started, told=100.0, canceled=True):
    """Return what is wrong with the end of a job whose handler started at these times."""
    ledger = Ledger(Path("none"))
    ledger.note(Submitted(nonce="n", behave="well", job_id="j", accepted=True), "")
    document = {"status": status, "result": {"nonce": "n"}}
    ledger.ends["j"] = (told, document)
    if canceled:
        ledger.note_cancel("j")
    executions = Executions()
    executions.started_at["n"] += started
    executions.finishes["n"] += len(started)
    return _wrong_ends(ledger, {"n": document}, executions)


def test_a_canceled_job_must_not_start():
    """After readers were told: it may have been running before, and it may have ended before the cancel."""
    assert not ended("canceled", started=[99.0])
    assert not ended("succeeded", started=[99.0, 101.0])
    assert "started after" in ended("canceled", started=[101.0])[0]


def test_a_job_ends_as_canceled_only_if_somebody_canceled_it():
    """It is an end without a cause."""
    assert "must be succeeded" in ended("canceled", started=[], canceled=False)[0]


def test_one_end_has_one_webhook_id():
    """A receiver takes two ids for two ends."""
    with Receiver() as receiver:
        receiver.ends["j"] = {"a": "succeeded"}
        receiver.ends["k"] = {"b": "succeeded", "c": "succeeded"}
        (found,) = receiver.contradictions()
        assert found.startswith("k:")
        assert ["succeeded"] == receiver.ends_of("j")


def test_a_version_that_this_clone_does_not_have_is_not_installed(tmp_path):
    """For example in a shallow clone: the rows about two versions are skipped, and say what to do."""
    with pytest.raises(NotInHistory, match="git fetch --unshallow"):
        install(tmp_path, "0" * 40)
    assert not list(tmp_path.iterdir())
