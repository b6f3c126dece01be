"""The fault matrix (docs/faults.md) on replicated servers: three RabbitMQ nodes, and a Redis with a replica."""

import shutil
import time
from unittest import SkipTest

import httpx
from redis import Redis

from fault_suite import probes
from fault_suite.fault import Act, Fault, Scene, wait_for
from fault_suite.nodes import NAMES, SMALL_DISK_NODE, Nodes
from fault_suite.proof import Proof

THREADS = 8


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
                    scene.require(answer.status_code == 503, f"answered {answer.status_code} without a majority")
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
    servers = _nodes(scene).servers
    master = servers.redis_master
    with Redis.from_url(servers.redis_urls[servers.redis_replica]) as replica:
        replica.replicaof("NO", "ONE")
        with scene.lasting(10), scene.cluster.redis as redis:
            redis.set("probe", 1, ex=600)
        killed = scene.cluster.kill(master)
        time.sleep(1)
        servers.fail_over()
        missing = replica.get("probe") is None
    return Proof({"kill of Redis": killed, "write that the replica lacks": missing})


def fail_over_beside_the_master(scene: Scene) -> Proof:
    """Fail over while half of the clients stay connected to the demoted Redis, as after a partition; then demote it."""
    servers = _nodes(scene).servers
    with (
        Redis.from_url(servers.redis_urls[servers.redis_master]) as demoted,
        Redis.from_url(servers.redis_urls[servers.redis_replica]) as promoted,
    ):
        promoted.replicaof("NO", "ONE")
        before = [_changes(demoted), _changes(promoted)]
        servers.fail_over(cut_every=2)
        with scene.lasting(20):
            old = wait_for(lambda: _changes(demoted) - before[0], within=10)
            new = wait_for(lambda: _changes(promoted) - before[1], within=10)
        servers.replicate(demoted)
    return Proof({"writes to the demoted Redis": old, "writes to the promoted one": new})


def _changes(redis: Redis) -> int:
    return int(redis.info("persistence")["rdb_changes_since_last_save"])


def _row(name: str, act: Act, **allowed: float | str) -> Fault:
    allowed = {"recovers_within": 30, "max_extra_runs": 6 * THREADS, **allowed}
    return Fault(name=name, act=act, **allowed)  # type: ignore[arg-type]


MATRIX = (
    _row("three nodes: each killed, one after the other", kill_each_node, max_gap=5),
    _row("three nodes: one frozen for 20 s", freeze_node, max_gap=15),
    _row("three nodes: one cut off for 30 s", cut_off(seconds=30), max_gap=20),
    _row("three nodes: link of one flaps 5 times", cut_off(seconds=4, times=5), max_gap=20),
    _row("three nodes: majority lost for 30 s", lose_majority),
    _row("three nodes: all killed", kill_all_nodes),
    _row(
        "Redis: failover, and the demoted one stays reachable for 20 s",
        fail_over_beside_the_master,
        known_failure="each of two Redis masters is served and projected into by those who reach it",
    ),
    _row("Redis: failover to a replica that lags", fail_over),
    # The last one: a stream's replicas do not all come back after a full disk.
    _row("three nodes: disk of one full, for real", fill_disk),
)
