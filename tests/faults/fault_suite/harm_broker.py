"""Faults of RabbitMQ, its queues and its messages."""

import random
import time
from collections.abc import Callable
from itertools import cycle

import aio_pika
from aio_pika.abc import AbstractConnection

from fault_suite.cluster import Cluster
from fault_suite.scenario import Act, Pace
from milepost_contracts.messages.topology import Topology


def restart_broker(cluster: Cluster, pace: Pace) -> None:
    """Restart RabbitMQ with SIGTERM, for its quorum queues have one member only."""
    del pace
    cluster.terminate("rabbitmq")


def alarm(set_words: tuple[str, ...], clear_words: tuple[str, ...], *, seconds: float) -> Act:
    """Make RabbitMQ block all publishers."""

    def act(cluster: Cluster, pace: Pace) -> None:
        cluster.rabbitmqctl(*set_words)
        try:
            time.sleep(pace.seconds(seconds))
        finally:
            cluster.rabbitmqctl(*clear_words)

    return act


def block_memory(seconds: float) -> Act:
    """Raise RabbitMQ's memory alarm."""
    words = "set_vm_memory_high_watermark"
    return alarm((words, "0"), (words, "0.4"), seconds=seconds)


def refuse_outcomes(cluster: Cluster, pace: Pace) -> None:
    """Make the broker reject every event: outcomes and retries can't be published."""
    queue = cluster.topology.lifecycle.name.replace(".", r"\.")
    policy = '{"max-length":0,"overflow":"reject-publish"}'
    cluster.rabbitmqctl("set_policy", "--apply-to", "queues", "refuse", f"^{queue}$", policy)
    try:
        time.sleep(pace.seconds(30))
    finally:
        cluster.rabbitmqctl("clear_policy", "refuse")


def spoil(cluster: Cluster, pace: Pace) -> None:
    """Publish unreadable messages among the others."""
    bodies = (b"garbage", b"{}", b'{"options":5,"actor_name":["x"],"queue_name":"default"}', b"\xff" * 1_000)

    async def inject(connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)  # the outcome does not matter
        exchange = await channel.get_exchange(cluster.topology.jobs.name, ensure=False)
        for body, key in zip(cycle(bodies), _keys(pace), strict=False):
            await exchange.publish(aio_pika.Message(body), key)

    for _ in range(3):
        cluster.at_broker(inject)
        time.sleep(1)


def _keys(pace: Pace) -> list[str]:
    return ["job.submitted.default.chaos", "job.started.default.chaos"] * pace.times(8)


def repeat(share: float, keys: tuple[str, ...], *, hold: int, seconds: float) -> Act:
    """Publish a share of the messages again, shuffled in groups of up to `hold`."""

    def act(cluster: Cluster, pace: Pace) -> None:
        chance = random.Random(1)

        async def again(connection: AbstractConnection) -> None:
            channel = await connection.channel()
            exchange = await channel.get_exchange(cluster.topology.jobs.name, ensure=False)
            queue = await channel.declare_queue(exclusive=True)
            for key in keys:
                await queue.bind(exchange, key)
            kept: list[aio_pika.abc.AbstractIncomingMessage] = []
            ends = time.monotonic() + pace.seconds(seconds)
            while time.monotonic() < ends or kept:
                message = await queue.get(no_ack=True, fail=False)
                if message is not None and not message.headers.get("again") and chance.random() < share:
                    kept.append(message)
                if len(kept) >= hold or (kept and time.monotonic() >= ends):
                    chance.shuffle(kept)
                    for one in kept:
                        copy = aio_pika.Message(one.body, headers={"again": 1}, delivery_mode=2)
                        await exchange.publish(copy, one.routing_key or "")
                    kept = []

        cluster.at_broker(again)

    return act


def delete_queue(name: Callable[[Topology], str]) -> Act:
    """Delete a queue and all that is in it."""

    def act(cluster: Cluster, pace: Pace) -> None:
        del pace

        async def delete(connection: AbstractConnection) -> None:
            channel = await connection.channel()
            await channel.queue_delete(name(cluster.topology))

        cluster.at_broker(delete)

    return act


def purge(cluster: Cluster, pace: Pace) -> int:
    """Let jobs queue up, and purge the queue; return how many were deleted."""

    async def purge_queue(connection: AbstractConnection) -> int:
        channel = await connection.channel()
        queue = await channel.get_queue(cluster.topology.work_queue_name("default"), ensure=False)
        return (await queue.purge()).message_count or 0

    with cluster.held_down(*cluster.names("processor")):
        for name in cluster.names("processor"):
            cluster.stop(name)  # a killed one may leave messages of ended jobs
        time.sleep(pace.seconds(5))
        return int(cluster.at_broker(purge_queue))


def unbind(cluster: Cluster, pace: Pace) -> None:
    """Unbind the tracker's queue, and bind it again: the gateway's check for queues does not detect this."""
    words = cluster.topology.lifecycle.bindings

    async def change(connection: AbstractConnection, *, bind: bool) -> None:
        channel = await connection.channel()
        queue = await channel.get_queue(cluster.topology.lifecycle.name, ensure=False)
        for binding in words:
            await (queue.bind if bind else queue.unbind)(binding.exchange.name, binding.key)

    cluster.at_broker(lambda connection: change(connection, bind=False))
    time.sleep(pace.seconds(5))
    cluster.at_broker(lambda connection: change(connection, bind=True))


def revoke(cluster: Cluster, pace: Pace) -> None:
    """Revoke the permission to write, and restore it."""
    cluster.rabbitmqctl("set_permissions", "guest", ".*", "^$", ".*")
    try:
        time.sleep(pace.seconds(10))
    finally:
        cluster.rabbitmqctl("set_permissions", "guest", ".*", ".*", ".*")


def rotate_password(cluster: Cluster, pace: Pace) -> None:
    """Change the password without telling the services: new connections are refused."""
    cluster.rabbitmqctl("change_password", "guest", "another")
    try:
        for kind in ("gateway", "processor", "tracker"):
            cluster.kill(cluster.names(kind)[0])
        time.sleep(pace.seconds(10))
    finally:
        cluster.rabbitmqctl("change_password", "guest", "guest")
