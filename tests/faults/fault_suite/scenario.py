"""One run of one fault: load, fault, recovery, and the verdict."""

import time
from dataclasses import replace

import httpx

from fault_suite.cluster import Cluster
from fault_suite.fault import Fault, Pace, Scene
from fault_suite.ledger import Ledger
from fault_suite.load import Load, Mix
from fault_suite.proof import Proof, Vacuous, proved
from fault_suite.readers import TIMEOUT
from fault_suite.receiver import receiving
from fault_suite.report import Row
from fault_suite.verdict import Run, judge


def run(fault: Fault, cluster: Cluster, pace: Pace, *, seed: int) -> Row:
    """Run one fault under load, and check the invariants."""
    begun = time.monotonic()
    begun_at = cluster.ledger.stat().st_size if cluster.ledger.exists() else 0
    ledger = Ledger(cluster.ledger, may_expire=fault.retention is not None)
    options = {} if fault.expires_in is None else {"expires_in": fault.expires_in}
    with receiving() as receiver, httpx.Client(timeout=TIMEOUT) as http:
        load = Load(
            cluster.urls,
            ledger,
            rate=pace.rate,
            seed=seed,
            mix=_mix(fault, pace),
            callback_url=receiver.url,
            first=fault.first,
            options=options,
        )
        scene = Scene(
            cluster=cluster,
            load=load,
            ledger=ledger,
            http=http,
            pace=replace(pace, seed=seed),
            begun_at=begun_at,
            restarts_before=cluster.restarts.total(),
        )
        with load.running():
            time.sleep(pace.before)
            proof, violations = cause(fault, scene)
            recovery = load.recovered(within=60)
            time.sleep(pace.before)
        done = Run(fault=fault, cluster=cluster, pace=pace, ledger=ledger, load=load, receiver=receiver)
        row = judge(done, proof, recovery=recovery, seed=seed, begun_at=begun_at)
    if fault.retention is None:
        cluster.ends.update(ledger.ends)
    return replace(row, violations=(*violations, *row.violations), took=time.monotonic() - begun)


def cause(fault: Fault, scene: Scene) -> tuple[Proof | None, list[str]]:
    """Cause the fault; return the proof that it took hold, and what was wrong meanwhile: `Vacuous` is a violation."""
    try:
        return proved(fault.act(scene)), scene.violations
    except Vacuous as error:
        return None, [*scene.violations, str(error)]


def _mix(fault: Fault, pace: Pace) -> Mix:
    failing = {"raise_once": 0, "raise_always": 0, "slow": 0, "cancel": 0} if fault.only_quick_successes else {}
    return Mix(slow_takes=pace.slow, **failing)
