"""Faults of services: they are killed, frozen, restarted, given a wrong clock, or kept waiting by clients."""

import socket
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from fault_suite.cluster import Cluster
from fault_suite.scenario import Act, Pace
from milepost_stack import install

WARM_UP_ROUNDS = 3
"""Rounds before memory is measured."""
FAKETIME = install.Program("faketime", ("/usr/bin/faketime",), apt="faketime", brew="libfaketime")


def kill_repeatedly(kind: str, *, every: float, times: int) -> Act:
    """Kill one process of a kind after the other."""

    def act(cluster: Cluster, pace: Pace) -> None:
        for name, _ in zip(cycle(cluster.names(kind)), range(pace.times(times)), strict=False):
            cluster.kill(name)
            time.sleep(max(1.0, pace.seconds(every)))

    return act


def freeze(*kinds: str, seconds: float, one: bool = True, scaled: bool = True) -> Act:
    """Freeze processes for a while: the first of each kind, or all."""

    def act(cluster: Cluster, pace: Pace) -> None:
        names = [name for kind in kinds for name in cluster.names(kind)[: 1 if one else None] or [kind]]
        with cluster.frozen(*names):
            time.sleep(pace.seconds(seconds) if scaled else seconds)

    return act


def roll(cluster: Cluster, pace: Pace) -> None:
    """Restart every service gracefully, one after the other."""
    del pace
    for kind in ("processor", "tracker", "gateway"):
        for name in cluster.names(kind):
            cluster.terminate(name)


def all_down(*kinds: str, seconds: float) -> Act:
    """Keep all processes of the given kinds down for a while."""

    def act(cluster: Cluster, pace: Pace) -> None:
        names = [name for kind in kinds for name in cluster.names(kind)]
        with cluster.held_down(*names):
            for name in names:
                cluster.kill(name)
            time.sleep(pace.seconds(seconds))

    return act


def wrong_clock(kind: str, offset: str) -> Act:
    """Run one service with its clock set off."""

    def act(cluster: Cluster, pace: Pace) -> None:
        install.ensure((FAKETIME,), print)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        off = {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with cluster.changed(cluster.names(kind)[0], **off):
            time.sleep(pace.seconds(20))

    return act


def silent_sockets(count: int, *, seconds: float) -> Act:
    """Open connections to each gateway; half send nothing, half send a part of a request."""

    def act(cluster: Cluster, pace: Pace) -> None:
        with ExitStack() as opened:
            for url in cluster.urls():
                for n in range(count):
                    address = urlsplit(url)
                    one = opened.enter_context(socket.create_connection((str(address.hostname), address.port), 5))
                    if n % 2:
                        one.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{")
            time.sleep(pace.seconds(seconds))

    return act


def repeatedly(*acts: Act, times: int) -> Act:
    """Repeat the same faults many times; no service may hold much more memory afterwards."""

    def act(cluster: Cluster, pace: Pace) -> None:
        for round_ in range(WARM_UP_ROUNDS + times):
            for one in acts:
                one(cluster, pace)
            if round_ == WARM_UP_ROUNDS - 1:
                before = cluster.memory()
        after = cluster.memory()
        grown = {name: round(after[name] / before[name] - 1, 2) for name in before if after[name] > 1.2 * before[name]}
        assert not grown, f"these hold more memory than before {times} faults: {grown}"

    return act
