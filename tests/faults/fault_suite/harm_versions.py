"""Two versions of the code side by side: an upgrade, its rollback, and each service alone of its version."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fault_suite.fault import Act, Fault, Scene, wait_for
from fault_suite.ledger import Submitted
from fault_suite.proof import Proof
from fault_suite.versions import ORDER, PREVIOUS, THIS, UNITS, TwoVersions

THREADS = 8


def upgrade(scene: Scene) -> Proof:
    """Replace every service by one of this version, in the documented order."""
    return _replace_all(scene, PREVIOUS, THIS, ORDER)


def roll_back(scene: Scene) -> Proof:
    """Replace every service by one of the previous version, in the reverse order."""
    return _replace_all(scene, THIS, PREVIOUS, tuple(reversed(ORDER)))


def beside(kind: str, version: str) -> Act:
    """Run the services of one kind with a version, and all others with the other one."""

    def act(scene: Scene) -> Proof:
        others = PREVIOUS if version == THIS else THIS
        versions = {one: version if one == kind else others for one in ORDER}
        cluster = _deploy(scene, versions)
        before = cluster.done()
        jobs = _submit_all_kinds(scene)
        for name in cluster.names("processor"):
            cluster.terminate(name)
        effects = _effects(scene, jobs)
        work = cluster.done() - before
        return Proof({f"{UNITS[one]} by {of}": work[one, of] for one, of in versions.items()} | effects)

    return act


def _replace_all(scene: Scene, old: str, new: str, order: Iterable[str]) -> Proof:
    """Replace one process after the other; both versions of a service run side by side for a while."""
    cluster = _deploy(scene, dict.fromkeys(ORDER, old))
    before, replaced, jobs = cluster.done(), 0, Jobs()
    for kind in order:
        jobs += _submit_all_kinds(scene)
        for name in cluster.names(kind):
            replaced += cluster.replace(name, new)
            scene.sleep(4)
    effects = _effects(scene, jobs)
    work = cluster.done() - before
    both = {f"{UNITS[kind]} by {version}": work[kind, version] for kind in ORDER for version in (old, new)}
    return Proof({"services replaced": replaced} | both | effects)


def _deploy(scene: Scene, versions: Mapping[str, str]) -> TwoVersions:
    """Run each kind of service with a version; first what goes back, then what goes on."""
    cluster = scene.cluster
    assert isinstance(cluster, TwoVersions)
    for version, order in ((PREVIOUS, tuple(reversed(ORDER))), (THIS, ORDER)):
        for kind in order:
            if versions[kind] == version:
                for name in cluster.names(kind):
                    cluster.replace(name, version)
    return cluster


@dataclass
class Jobs:
    """Jobs that went a way of their own through the services."""

    interrupted: list[Submitted] = field(default_factory=list)
    canceled: list[Submitted] = field(default_factory=list)
    others: list[Submitted] = field(default_factory=list)

    def __add__(self, more: "Jobs") -> "Jobs":
        return Jobs(self.interrupted + more.interrupted, self.canceled + more.canceled, self.others + more.others)


def _submit_all_kinds(scene: Scene) -> Jobs:
    """Submit jobs that wait, are retried, kill their worker, and long ones, which are started, and some canceled."""
    jobs = Jobs(
        interrupted=scene.submit(8, "resume", 30_000),
        canceled=scene.submit(4, "well", 40_000),
        others=[
            *scene.submit(4, delay=3),
            *scene.submit(4, "later"),
            *scene.submit(4, "raise-once"),
            *scene.submit(2, "raise-always"),
        ],
    )
    running = [*jobs.interrupted, *jobs.canceled]
    wait_for(lambda: scene.started(running), within=20, at_least=len(running))
    scene.cancel(jobs.canceled)
    return jobs


def _effects(scene: Scene, jobs: Jobs) -> dict[str, int]:
    """Let a job kill its workers, wait until all have ended, and return how many went the way they were made for."""
    deadly = scene.submit(1, "kill")
    scene.all_end([*jobs.interrupted, *jobs.canceled, *jobs.others, *deadly], within=180)
    resumed = scene.executions().resumed
    return {
        "jobs continued where they were interrupted": sum(one.nonce in resumed for one in jobs.interrupted),
        "canceled while they ran": sum(scene.document(one).get("status") == "canceled" for one in jobs.canceled),
        "dead-lettered": sum(scene.document(one).get("status") == "failed" for one in deadly),
    }


MATRIX = (
    Fault(name="upgrade: trackers, processors, gateways", act=upgrade, max_extra_runs=14 * THREADS),
    Fault(name="rollback: gateways, processors, trackers", act=roll_back, max_extra_runs=14 * THREADS),
    *(
        Fault(name=f"{version} {kind}s beside {others} others", act=beside(kind, version), max_extra_runs=17 * THREADS)
        for version, others in ((PREVIOUS, THIS), (THIS, PREVIOUS))
        for kind in ORDER
    ),
)
"""The fault matrix of two versions, in which a crash of a processor is one of the things that both must bear."""
