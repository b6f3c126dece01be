"""Deployments: two versions of a processor side by side, handlers that do odd things, and short retention."""

from itertools import pairwise

import psutil
from chaos_odd import SHELL_CHILD

from fault_suite.fault import Act, Fault, Scene, wait_for
from fault_suite.proof import Proof

OLD, NEW = "chaos_jobs,chaos_odd,chaos_old_version", "chaos_jobs,chaos_odd,chaos_new_version"
"""The handlers of two releases."""
JOBS = 20
RETENTION = 8
"""Seconds for which ended jobs are kept in the deployment of `MATRIX`."""
DELAY = 50
"""Seconds for which jobs wait there; trackers sweep away what is older than the retention every 30 seconds."""


def add_type(scene: Scene) -> Proof:
    """Deploy a new job type to one of three processors of a queue, and submit its jobs."""
    with scene.cluster.running({scene.cluster.names("processor")[0]: NEW}):
        jobs = scene.submit(JOBS, "new-type")
        serving = wait_for(lambda: _processors(scene, "chaos-new")[0], within=10)
        _, types = _processors(scene, "chaos-new")
        scene.all_end(jobs, within=30)
    return Proof({"jobs of a new type": len(jobs), "processors with it": serving, "without it": types - serving})


def add_field(*, newest_last: bool) -> Act:
    """Run two versions of a handler, of which one takes a new field; half of the submissions have it."""

    def act(scene: Scene) -> Proof:
        versions = [OLD, OLD, NEW] if newest_last else [NEW, OLD, OLD]
        with scene.cluster.running(dict(zip(scene.cluster.names("processor"), versions, strict=True))):
            serving = wait_for(lambda: _processors(scene, "chaos-versioned")[0], within=20, at_least=3)
            with scene.lasting(40):  # longer than two announcements
                jobs = []
                for _ in range(JOBS):
                    jobs.append(scene.load.submit(scene.http, "versioned", 0, more_params={"currency": "USD"}))
                    scene.sleep(2)
                without = scene.submit(JOBS, "versioned")
            changes = sum(one.accepted != next_.accepted for one, next_ in pairwise(jobs))
            scene.require(changes <= 1, f"the answers to the same submission changed {changes} times")
            scene.all_end([*without, *(one for one in jobs if one.accepted)], within=30)
        return Proof({"submissions of a new field": len(jobs), "processors with one of two schemas": serving})

    return act


def _processors(scene: Scene, type_name: str) -> tuple[int, int]:
    """Return how many live processors serve a job type, and how many there are."""
    found = scene.http.get(f"{scene.cluster.urls()[0]}/v1/processors").json()["items"]
    return sum(type_name in one["types"] for one in found), len(found)


def wait_longer_than_retention(scene: Scene) -> Proof:
    """Let jobs wait for longer than ended ones are kept: a canceled one is forgotten before it is due."""
    waiting = scene.submit(JOBS, delay=DELAY)
    canceled, kept = waiting[: JOBS // 2], waiting[JOBS // 2 :]
    scene.cancel(canceled)
    scene.all_end(canceled, within=10)

    def forgotten() -> int:
        return sum(not scene.document(one) for one in canceled)

    gone = wait_for(forgotten, within=DELAY - 5, at_least=len(canceled))
    early = scene.started(waiting)
    ran = wait_for(lambda: scene.started(kept), within=DELAY, at_least=len(kept))
    return Proof({"canceled jobs forgotten before they were due": 0 if early else gone, "jobs that waited": ran})


def run_odd_handlers(scene: Scene) -> Proof:
    """Run handlers that fork, spawn shells, close stderr, use task groups and swallow a cancel."""
    finishing = [job for behave in ("fork", "close-stderr") for job in scene.submit(2, behave, 500)]
    canceled = [job for behave in ("shell", "task-group", "swallow-cancel") for job in scene.submit(2, behave, 30_000)]
    jobs = finishing + canceled
    started = wait_for(lambda: scene.started(jobs), within=20, at_least=len(jobs))
    scene.cancel(canceled)
    scene.all_end(jobs, within=15)
    left = wait_for(lambda: int(_count(SHELL_CHILD) == 0), within=5) or _count(SHELL_CHILD)
    scene.require(_count(SHELL_CHILD) == 0, f"{left} children of ended jobs still run")
    return Proof({"odd handlers started": started})


def _count(command: str) -> int:
    """Return how many processes run a command."""
    return sum(one.info["cmdline"] == command.split() for one in psutil.process_iter(["cmdline"]))


MATRIX = (
    Fault(
        name="retention shorter than the delays",
        act=wait_longer_than_retention,
        max_extra_runs=8,
        retention=RETENTION,
    ),
)
"""The fault matrix of a deployment with that retention."""
