"""Faults of queues: full, missing, unbound or purged ones, and those of others."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aio_pika
from aio_pika.abc import AbstractConnection
from pamqp.common import FieldTable

from fault_suite import probes
from fault_suite.cluster import Cluster
from fault_suite.fault import Act, Scene
from fault_suite.proof import Proof
from milepost_contracts.messages.topology import Topology

OUTCOMES = tuple(f"job.{fact}.#" for fact in ("succeeded", "failed", "canceled", "retrying", "interrupted"))
"""Routing keys of all events that end an execution."""


@contextmanager
def full_queue(cluster: Cluster, keys: tuple[str, ...]) -> Iterator[int]:
    """Bind a full queue, which refuses messages with these keys; yield how many it was seen to refuse."""

    async def bind(connection: AbstractConnection) -> None:
        arguments: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel = await connection.channel()
        queue = await channel.declare_queue("full", durable=True, arguments=arguments)
        await channel.default_exchange.publish(aio_pika.Message(b"it is full"), "full")
        for key in keys:
            await queue.bind(cluster.topology.jobs.name, key)

    async def delete(connection: AbstractConnection) -> None:
        await (await connection.channel()).queue_delete("full")

    cluster.at_broker(bind)
    try:
        yield probes.refusals(cluster, "full")
    finally:
        cluster.at_broker(delete)


@contextmanager
def copies(cluster: Cluster, keys: tuple[str, ...]) -> Iterator[Counter[bytes]]:
    """Count how often each message with these keys is published until the block ends, refused or not."""
    found: Counter[bytes] = Counter()

    async def bind(connection: AbstractConnection) -> None:
        queue = await (await connection.channel()).declare_queue("copies", durable=True)
        for key in keys:
            await queue.bind(cluster.topology.jobs.name, key)

    async def read(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        queue = await channel.get_queue("copies", ensure=False)
        while message := await queue.get(no_ack=True, fail=False):
            found[message.body] += 1
        await channel.queue_delete("copies")

    cluster.at_broker(bind)
    try:
        yield found
    finally:
        cluster.at_broker(read)


def refuse_outcomes(scene: Scene) -> Proof:
    """Make the broker refuse every event that ends an execution: outcomes and retries can't be published."""
    with (
        copies(scene.cluster, OUTCOMES) as published,
        full_queue(scene.cluster, OUTCOMES) as refused,
        scene.lasting(30),
    ):
        pass
    again = sum(count > 1 for count in published.values())
    return Proof({"refusals": refused, "outcomes published again": again})


def delete_queue(name: Callable[[Topology], str]) -> Act:
    """Delete a queue and all that is in it."""

    def act(scene: Scene) -> Proof:
        queue = name(scene.cluster.topology)

        async def delete(connection: AbstractConnection) -> None:
            await (await connection.channel()).queue_delete(queue)

        before = probes.consumers(scene.cluster, queue)
        scene.cluster.at_broker(delete)
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
