"""Faults of queues: full, missing, unbound or purged ones, and those of others."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import aio_pika
from aio_pika.abc import AbstractConnection
from pamqp.common import FieldTable

from fault_suite import probes
from fault_suite.cluster import Cluster
from fault_suite.fault import Act, Scene, wait_for
from fault_suite.proof import Proof
from milepost_contracts.messages.broker_objects import Exchange
from milepost_contracts.messages.topology import Topology

OUTCOMES = tuple(f"job.{fact}.#" for fact in ("succeeded", "failed", "canceled", "retrying", "interrupted"))
"""Routing keys of all events that end an execution."""
ELSEWHERE = "elsewhere"
"""A queue with a processor of its own."""
WAITING_JOBS = 60
"""Jobs that wait for it: more than the broker dead-letters from one queue at a time (32)."""
DELAY = 9
"""Seconds for which they wait: 8 and 1. The jobs of this queue wait for 1 second, in the same level."""
Observe = Callable[[], int]


@contextmanager
def full_queue(cluster: Cluster, exchange: Exchange, keys: tuple[str, ...]) -> Iterator[int]:
    """Bind a full queue, which refuses messages with these keys; yield how many it was seen to refuse."""

    async def bind(connection: AbstractConnection) -> None:
        arguments: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel = await connection.channel()
        queue = await channel.declare_queue("full", durable=True, arguments=arguments)
        await channel.default_exchange.publish(aio_pika.Message(b"it is full"), "full")
        for key in keys:
            await queue.bind(exchange.name, key)

    cluster.at_broker(bind)
    try:
        yield probes.refusals(cluster, "full")
    finally:
        cluster.at_broker(lambda connection: _delete(connection, "full"))


@contextmanager
def copies(cluster: Cluster, exchange: Exchange, keys: tuple[str, ...]) -> Iterator[Counter[bytes]]:
    """Count how often each message with these keys is published until the block ends, refused or not."""
    found: Counter[bytes] = Counter()

    async def bind(connection: AbstractConnection) -> None:
        queue = await (await connection.channel()).declare_queue("copies", durable=True)
        for key in keys:
            await queue.bind(exchange.name, key)

    async def read(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        queue = await channel.declare_queue("copies", passive=True)
        async with queue.iterator(no_ack=True) as messages:
            while found.total() < (queue.declaration_result.message_count or 0):
                found[(await anext(messages)).body] += 1
        await channel.queue_delete("copies")

    cluster.at_broker(bind)
    try:
        yield found
    finally:
        cluster.at_broker(read)


def refuse_outcomes(scene: Scene) -> Proof:
    """Make the broker refuse every event that ends an execution: outcomes and retries can't be published.

    Milepost's own queues are emptied faster than a limit could fill them. So one more queue, which is full, hangs on
    their exchange; that of other teams is not enough, for their queues refuse nothing.
    """
    internal = scene.cluster.topology.internal
    with (
        copies(scene.cluster, internal, OUTCOMES) as published,
        full_queue(scene.cluster, internal, OUTCOMES) as refused,
        scene.lasting(30),
    ):
        pass
    again = sum(count > 1 for count in published.values())
    return Proof({"refusals": refused, "outcomes published again": again})


@contextmanager
def limited(cluster: Cluster, queue: str) -> Iterator[Observe]:
    """Let a queue refuse messages while one is in it; yield what counts its refusals."""
    words = ("set_policy", "--apply-to", "queues", "full")
    cluster.rabbitmqctl(*words, f"^{queue.replace('.', '[.]')}$", '{"max-length":0,"overflow":"reject-publish"}')
    try:
        yield lambda: probes.refusals(cluster, queue)
    finally:
        cluster.rabbitmqctl("clear_policy", "full")


@contextmanager
def missing(cluster: Cluster, queue: str) -> Iterator[Observe]:
    """Delete a queue, and leave it to the services to declare it again; yield whether it was missing."""
    cluster.at_broker(lambda connection: _delete(connection, queue))
    gone = not probes.exists(cluster, queue)
    yield lambda: gone


async def _delete(connection: AbstractConnection, queue: str) -> None:
    await (await connection.channel()).queue_delete(queue)


def stop_elsewhere(what: str, stopped: Callable[[Cluster, str], AbstractContextManager[Observe]]) -> Act:
    """Stop the queue of others while jobs wait for it; the jobs of this queue that wait must not notice.

    Args:
        what: The observed effect.
        stopped: Stops the queue.
    """

    def act(scene: Scene) -> Proof:
        cluster, name = scene.cluster, scene.cluster.names("processor")[-1]
        queue = cluster.topology.work_queue_name(ELSEWHERE)
        with cluster.running({name: "chaos_elsewhere"}):
            theirs = scene.submit(WAITING_JOBS, "other-queue", delay=DELAY)
            with cluster.held_down(name):
                cluster.stop(name)
                with stopped(cluster, queue) as observe:
                    time.sleep(DELAY + 1)
                    scene.all_end(scene.submit(5, "later", 0), within=15)
                    effects = {what: observe(), "jobs held back": len(theirs) - scene.started(theirs)}
            scene.all_end(theirs, within=90)
        return Proof(effects)

    return act


def fill_lifecycle(scene: Scene) -> Proof:
    """Let the trackers' queue be full: nothing can be accepted, and nothing that ends can be published."""
    cluster, names = scene.cluster, scene.cluster.names("tracker")
    with cluster.held_down(*names):
        for name in names:
            cluster.kill(name)
        with limited(cluster, cluster.topology.lifecycle.name) as observe, scene.lasting(20):
            refused = wait_for(observe, within=10)
    return Proof({"messages refused": refused})


def listen_with_full_queue(scene: Scene) -> Proof:
    """Let another team's queue, bound to the exchange for them, be full: nothing may be refused for it."""
    with full_queue(scene.cluster, scene.cluster.topology.jobs, ("job.#",)) as refused, scene.lasting(20):
        pass
    return Proof({"refusals of the other team's queue": refused})


def delete_level(scene: Scene) -> Proof:
    """Delete a delay level that only jobs of this row need; the services declare it again."""
    cluster = scene.cluster
    level = cluster.topology.delay_queue(2).name
    cluster.at_broker(lambda connection: _delete(connection, level))
    gone = not probes.exists(cluster, level)
    jobs = scene.submit(5, "later", 3_500)  # 1 s and that: 4 s, and 1 s
    needed = wait_for(lambda: scene.started(jobs), within=10, at_least=len(jobs))
    return Proof({"missing level": gone, "jobs that need it": needed})


def delete_queue(name: Callable[[Topology], str]) -> Act:
    """Delete a queue and all that is in it."""

    def act(scene: Scene) -> Proof:
        queue = name(scene.cluster.topology)

        before = probes.consumers(scene.cluster, queue)
        scene.cluster.at_broker(lambda connection: _delete(connection, queue))
        return Proof({"consumers lost their queue": before})

    return act


def purge(scene: Scene) -> Proof:
    """Let jobs queue up, and purge the queue."""
    cluster = scene.cluster

    async def purge_queue(connection: AbstractConnection) -> int:
        channel = await connection.channel()
        queue = await channel.get_queue(cluster.topology.work_queue_name("default"), ensure=False)
        return (await queue.purge()).message_count or 0

    with cluster.held_down(*cluster.names("processor")):
        for name in cluster.names("processor"):
            cluster.stop(name)  # a killed one may leave messages of ended jobs
        scene.sleep(5)
        purged = int(cluster.at_broker(purge_queue))
    return Proof({"messages purged": purged}, destroyed=purged)


def unbind(scene: Scene) -> Proof:
    """Unbind the tracker's queue, and bind it again: the gateway's check for queues does not detect this."""
    cluster, lifecycle = scene.cluster, scene.cluster.topology.lifecycle

    async def change(connection: AbstractConnection, *, bind: bool) -> None:
        channel = await connection.channel()
        queue = await channel.get_queue(lifecycle.name, ensure=False)
        for binding in lifecycle.bindings:
            await (queue.bind if bind else queue.unbind)(binding.exchange.name, binding.key)

    before = probes.bindings_of(cluster, lifecycle.name)
    cluster.at_broker(lambda connection: change(connection, bind=False))
    try:
        with scene.lasting(5):
            removed = before - probes.bindings_of(cluster, lifecycle.name)
    finally:
        cluster.at_broker(lambda connection: change(connection, bind=True))
    return Proof({"bindings removed": removed})
