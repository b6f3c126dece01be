"""Replicated servers and their faults: three RabbitMQ nodes, and a Redis with a replica."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest
from urllib.parse import urlsplit

import httpx
from redis import Redis

from fault_suite import probes
from fault_suite.cluster import Cluster
from fault_suite.fault import Act, Fault, Scene
from fault_suite.proof import Proof
from fault_suite.switch import Address, Switch
from milepost_stack import install, processes, rabbitmq, redis_server
from milepost_stack.stack import Stack
from milepost_stack.state import ProcessState

NAMES = ("rabbitmq-1", "rabbitmq-2", "rabbitmq-3")
SMALL_DISK_NODE = "rabbitmq-3"
"""The node with a small disk, if mounting one is permitted."""
SMALL_DISK_SIZE = 500
"""MB; RabbitMQ raises its disk alarm below 50 MB."""
CATCH_UP_TIMEOUT = 25
"""Seconds within which a restarted node must catch up; else the nodes are restarted, as by an operator."""
THREADS = 8


class Servers:
    """RabbitMQ's nodes behind a load balancer, and Redis behind a switch."""

    def __init__(self, folder: Path) -> None:
        """Start all servers, which takes about half a minute."""
        self.folder = folder
        self._switches: list[Switch] = []
        self.processes: list[ProcessState] = []
        self.small_disk = self._mount(folder / SMALL_DISK_NODE)
        programs = install.ensure((install.RABBITMQ, install.EPMD, install.REDIS), print)
        try:
            self._start_nodes(programs)
            self._start_redis(programs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop all servers."""
        for switch in self._switches:
            switch.close()
        for process in reversed(self.processes):
            processes.stop(process)
        if self.small_disk:
            subprocess.run(["umount", self.folder / SMALL_DISK_NODE], check=True)
            self.small_disk = False

    def _start_nodes(self, programs: dict[str, str]) -> None:
        urls, made = rabbitmq.nodes(self.folder, programs, NAMES)
        for process, url in zip(made, (None, *urls), strict=True):
            self._start(process, lambda url=url: url is None or rabbitmq.answers(url))  # type: ignore[misc]
        self.node_urls = dict(zip(NAMES, urls, strict=True))
        self.rabbitmq_url = f"amqp://guest:guest@127.0.0.1:{self._switched([_address(url) for url in urls]).port}/"

    def _start_redis(self, programs: dict[str, str]) -> None:
        urls = {}
        for name in ("redis", "redis-replica"):
            urls[name], process = redis_server.process(self.folder / name, programs)
            process.name = name
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._start(process, lambda url=urls[name]: redis_server.answers(url))  # type: ignore[misc]
        self.replica_url = urls["redis-replica"]
        with Redis.from_url(self.replica_url) as replica:
            replica.replicaof(*map(str, _address(urls["redis"])))
        self.redis_switch = self._switched([_address(urls["redis"])])
        self.redis_url = f"redis://127.0.0.1:{self.redis_switch.port}/0"

    def _start(self, process: ProcessState, ready: Callable[[], bool]) -> None:
        processes.start(process)
        self.processes.append(process)
        processes.wait_ready(process, ready, rabbitmq.READY_TIMEOUT)

    def _switched(self, addresses: list[Address]) -> Switch:
        switch = Switch(addresses)
        self._switches.append(switch)
        return switch

    def _mount(self, folder: Path) -> bool:
        """Mount a disk for a node, if we are root; return whether it was done."""
        folder.mkdir(parents=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_SIZE}m", "milepost", str(folder)]
        return os.geteuid() == 0 and subprocess.run(words, check=False, capture_output=True).returncode == 0

    # Actions on servers.

    def fail_over(self) -> None:
        """Point the switch at the replica, whatever it has."""
        self.redis_switch.point_at([_address(self.replica_url)])

    def fill_disk(self) -> Path:
        """Fill the small disk; return the file to remove afterwards."""
        filler = self.folder / SMALL_DISK_NODE / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1_000_000))
        return filler


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


class Nodes(Cluster):
    """A stack on replicated servers."""

    def __init__(self, stack: Stack, ledger: str | Path, servers: Servers) -> None:
        state = stack.state
        assert state is not None
        state.processes[:0] = servers.processes
        state.save(stack.folder)
        super().__init__(stack, ledger)
        self.servers = servers

    def node_name(self, name: str) -> str:
        """Return the Erlang name of a node."""
        return self._process(name).environment["RABBITMQ_NODENAME"]

    def wait_until_dispensable(self, name: str) -> None:
        """Wait until every replicated queue has a quorum without this node; restart nodes that do not catch up."""
        for _ in range(len(NAMES)):
            if self._can_do_without(name):
                return
            for other in NAMES:
                if other != name:
                    self.terminate(other)
                    self._can_do_without(name)
        raise TimeoutError(f"the other nodes can't do without {name}")

    def _can_do_without(self, name: str) -> bool:
        deadline = time.monotonic() + CATCH_UP_TIMEOUT
        while not all(self._answers(other) for other in NAMES) or not self._is_dispensable(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _answers(self, name: str) -> bool:
        return rabbitmq.answers(self.servers.node_urls[name])

    def _is_dispensable(self, name: str) -> bool:
        with suppress(subprocess.CalledProcessError):
            self.rabbitmqctl("check_if_node_is_quorum_critical", node=name, program="rabbitmq-diagnostics")
            return True
        return False


# Faults.


def _nodes(scene: Scene) -> Nodes:
    assert isinstance(scene.cluster, Nodes)
    return scene.cluster


def kill_each_node(scene: Scene) -> Proof:
    """Kill one node after the other, each after the last one has caught up."""
    cluster, killed = _nodes(scene), 0
    for name in NAMES:
        cluster.wait_until_dispensable(name)
        with cluster.held_down(name):
            killed += cluster.kill(name)
            scene.sleep(10)
    return Proof({"nodes killed": killed})


def freeze_node(scene: Scene) -> Proof:
    """Freeze the node that leads the most queues."""
    cluster = _nodes(scene)
    cluster.wait_until_dispensable(NAMES[0])
    with cluster.frozen(NAMES[0]) as frozen:
        scene.sleep(20)
    return Proof({"node stopped": frozen})


def cut_off(*, seconds: float, times: int = 1) -> Act:
    """Cut a node off from the others; as a minority, RabbitMQ pauses it."""

    def act(scene: Scene) -> Proof:
        cluster, cut = _nodes(scene), 0
        for _ in range(times):
            cluster.wait_until_dispensable(NAMES[0])
            others = [cluster.node_name(name) for name in NAMES[1:]]
            each = f"N <- [{', '.join(repr(name) for name in others)}]"
            cluster.rabbitmqctl(
                "eval", f"[begin erlang:set_cookie(N, wrong), erlang:disconnect_node(N) end || {each}].", node=NAMES[0]
            )
            with scene.lasting(seconds):
                cut += cluster.rabbitmqctl("eval", "nodes().", node=NAMES[0]).strip() == "[]"
            cluster.rabbitmqctl("eval", f"[erlang:set_cookie(N, erlang:get_cookie()) || {each}].", node=NAMES[0])
        return Proof({"cuts from all other nodes": cut})

    return act


def lose_majority(scene: Scene) -> Proof:
    """Kill two of three nodes: no job may be accepted, for none could be stored safely."""
    cluster, refused = _nodes(scene), 0
    cluster.wait_until_dispensable(NAMES[0])
    with cluster.held_down(*NAMES[1:]):
        killed = sum(cluster.kill(name) for name in NAMES[1:])
        time.sleep(2)
        with httpx.Client(timeout=5) as http, scene.lasting(30):
            ends = time.monotonic() + scene.pace.seconds(30)
            while time.monotonic() < ends:
                for url in cluster.urls():
                    answer = http.post(f"{url}/v1/jobs", json={"type": "chaos", "params": {"nonce": "no-majority"}})
                    assert answer.status_code == 503, f"accepted without a majority: {answer.status_code}"
                    refused += 1
                time.sleep(0.5)
    return Proof({"nodes killed": killed, "submissions refused": refused})


def kill_all_nodes(scene: Scene) -> Proof:
    """Kill all three nodes at once, and restart them together."""
    with scene.cluster.held_down(*NAMES):
        killed = sum(scene.cluster.kill(name) for name in NAMES)
        refused = not probes.broker_answers(scene.cluster)
        scene.sleep(5)
    return Proof({"nodes killed": killed, "connection refused": refused})


def fill_disk(scene: Scene) -> Proof:
    """Fill a node's disk, and restart the node once there is space: its log does not recover by itself."""
    cluster = _nodes(scene)
    if not cluster.servers.small_disk:
        raise SkipTest("only root can mount a small disk")
    filler = cluster.servers.fill_disk()
    try:
        with scene.lasting(20):
            free = shutil.disk_usage(filler.parent).free
    finally:
        filler.unlink()
        with cluster.held_down(SMALL_DISK_NODE):
            cluster.kill(SMALL_DISK_NODE)
    return Proof({"node without a free byte": free == 0})


def fail_over(scene: Scene) -> Proof:
    """Stop the replication for a while, kill Redis, and fail over to the replica."""
    cluster = _nodes(scene)
    with Redis.from_url(cluster.servers.replica_url) as replica:
        replica.replicaof("NO", "ONE")
        with scene.lasting(10), cluster.redis as redis:
            redis.set("probe", 1, ex=600)
        killed = cluster.kill("redis")
        time.sleep(1)
        cluster.servers.fail_over()
        missing = replica.get("probe") is None
    return Proof({"kill of Redis": killed, "write that the replica lacks": missing})


def _row(name: str, act: Act, **allowed: float) -> Fault:
    allowed = {"recovers_within": 30, "max_extra_runs": 6 * THREADS, **allowed}
    return Fault(name=name, act=act, **allowed)  # type: ignore[arg-type]


MATRIX = (
    _row("three nodes: each killed, one after the other", kill_each_node, max_gap=5),
    _row("three nodes: one frozen for 20 s", freeze_node, max_gap=15),
    _row("three nodes: one cut off for 30 s", cut_off(seconds=30), max_gap=20),
    _row("three nodes: link of one flaps 5 times", cut_off(seconds=4, times=5), max_gap=20),
    _row("three nodes: majority lost for 30 s", lose_majority),
    _row("three nodes: all killed", kill_all_nodes),
    _row("three nodes: disk of one full, for real", fill_disk),
    _row("Redis: failover to a replica that lags", fail_over),
)
