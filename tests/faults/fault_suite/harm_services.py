"""Faults of services: they are killed, frozen, restarted, given a wrong clock, or kept waiting by clients."""

import json
import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from fault_suite import probes
from fault_suite.cluster import Cluster
from fault_suite.fault import Act, Scene, wait_for
from fault_suite.proof import Proof
from milepost_stack import install

WARM_UP_ROUNDS = 3
"""Rounds before memory is measured."""
MIN_OFFSET = timedelta(minutes=9)
"""How far the clock of a service must be off at least."""
FAKETIME = install.Program("faketime", ("/usr/bin/faketime",), apt="faketime", brew="libfaketime")


def nothing(scene: Scene) -> Proof:
    """Cause no fault; prove that no service was restarted meanwhile."""
    names = [name for kind in ("gateway", "processor", "tracker") for name in scene.cluster.names(kind)]
    before = {name: scene.cluster.pid(name) for name in names}
    scene.sleep(5)
    return Proof({"services undisturbed": sum(before[name] == scene.cluster.pid(name) for name in names)})


def kill_repeatedly(kind: str, *, every: float, times: int) -> Act:
    """Kill one process of a kind after the other."""

    def act(scene: Scene) -> Proof:
        killed = 0
        for name, _ in zip(cycle(scene.cluster.names(kind)), range(scene.pace.times(times)), strict=False):
            killed += scene.cluster.kill(name)
            time.sleep(max(1.0, scene.pace.seconds(every)))
        return Proof({f"{kind}s killed": killed})

    return act


def freeze(*kinds: str, seconds: float) -> Act:
    """Freeze processes for a while: the first of each kind."""

    def act(scene: Scene) -> Proof:
        names = [name for kind in kinds for name in scene.cluster.names(kind)[:1] or [kind]]
        with scene.cluster.frozen(*names) as frozen:
            scene.sleep(seconds)
        return Proof({"processes stopped": frozen})

    return act


def make_zombie(scene: Scene) -> Proof:
    """Freeze a processor until the broker has given its jobs to others, and let it go on."""
    name = scene.cluster.names("processor")[0]
    queue = scene.cluster.topology.work_queue_name("default")
    before = probes.consumers(scene.cluster, queue)
    with scene.cluster.frozen(name) as frozen:  # the broker closes a connection after two or three heartbeats of 10 s
        gone = wait_for(lambda: before - probes.consumers(scene.cluster, queue), within=40)
    return Proof({"processor stopped": frozen, "consumer removed by the broker": gone})


def roll(scene: Scene) -> Proof:
    """Restart every service gracefully, one after the other."""
    restarted = 0
    for kind in ("processor", "tracker", "gateway"):
        for name in scene.cluster.names(kind):
            before = scene.cluster.pid(name)
            scene.cluster.terminate(name)
            restarted += scene.cluster.pid(name) not in (None, before)
    return Proof({"services restarted": restarted})


def trackers_down(seconds: float) -> Act:
    """Keep all trackers down for a while."""

    def act(scene: Scene) -> Proof:
        cluster, names = scene.cluster, scene.cluster.names("tracker")
        with cluster.held_down(*names):
            killed = sum(cluster.kill(name) for name in names)
            with scene.lasting(seconds):
                waiting = wait_for(lambda: probes.depth(cluster, cluster.topology.lifecycle.name), within=10)
        return Proof({"trackers killed": killed, "events waiting": waiting})

    return act


def wrong_clock(kind: str, offset: str) -> Act:
    """Run one service with its clock set off."""

    def act(scene: Scene) -> Proof:
        install.ensure((FAKETIME,), print)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        off = {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        name = scene.cluster.names(kind)[0]
        log = scene.cluster.log_of(name)
        size = log.stat().st_size
        with scene.cluster.changed(name, **off), scene.lasting(20):
            wrong = wait_for(lambda: _wrong_times(log.read_bytes()[size:]), within=15)
        return Proof({"wrong times in its log": wrong})

    return act


def _wrong_times(log: bytes) -> int:
    """Return how many lines of a log have a time that is far from the right one."""
    found = 0
    for line in log.splitlines():
        if line.startswith(b"{") and line.endswith(b"}") and (text := json.loads(line).get("timestamp")):
            found += abs(datetime.fromisoformat(text) - datetime.now(UTC)) > MIN_OFFSET
    return found


def silent_sockets(count: int, *, seconds: float) -> Act:
    """Open connections to each gateway; half send nothing, half send a part of a request."""

    def act(scene: Scene) -> Proof:
        held = 0
        with ExitStack() as opened, scene.lasting(seconds):
            for url, name in zip(scene.cluster.urls(), scene.cluster.names("gateway"), strict=True):
                for n in range(count):
                    address = urlsplit(url)
                    one = opened.enter_context(socket.create_connection((str(address.hostname), address.port), 5))
                    if n % 2:
                        one.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{")
                accepted = partial(_open_sockets, scene.cluster, name)
                held += wait_for(accepted, within=5, at_least=count) >= count
        return Proof({f"gateways with {count} silent sockets": held})

    return act


def _open_sockets(cluster: Cluster, name: str) -> int:
    """Return how many connections a process has accepted and not closed."""
    connections = psutil.Process(cluster.pid(name)).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED for one in connections)


def misbehave(*behaviours: str, seconds: float, restarts: bool = False) -> Act:
    """Let the handlers of the first jobs misbehave; prove that each was started, and that processes ended of it."""

    def act(scene: Scene) -> Proof:
        def started() -> int:
            return len(set(behaviours) & scene.executions().behaviours.keys())

        with scene.lasting(seconds):
            effects = {"kinds of misbehaving handlers": wait_for(started, within=20, at_least=len(set(behaviours)))}
            if restarts:
                effects["processors ended"] = wait_for(lambda: scene.restarts, within=20)
        return Proof(effects)

    return act


def repeatedly(*acts: Act, times: int) -> Act:
    """Repeat the same faults many times; no service may hold much more memory afterwards."""

    def act(scene: Scene) -> Proof:
        proofs = []
        for round_ in range(WARM_UP_ROUNDS + times):
            proofs += [one(scene) for one in acts]
            if round_ == WARM_UP_ROUNDS - 1:
                before = scene.cluster.memory()
        after = scene.cluster.memory()
        grown = {name: round(after[name] / before[name] - 1, 2) for name in before if after[name] > 1.2 * before[name]}
        scene.require(not grown, f"these hold more memory than before {times} faults: {grown}")
        return sum(proofs[1:], proofs[0])

    return act
