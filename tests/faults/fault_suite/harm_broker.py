"""Faults of RabbitMQ itself, its users and its messages."""

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle

import aio_pika
from aio_pika.abc import AbstractConnection

from fault_suite import probes
from fault_suite.fault import Act, Pace, Scene, wait_for
from fault_suite.ledger import Submitted
from fault_suite.proof import Proof
from milepost_contracts.messages.topology import Topology
from milepost_contracts.permissions.users import User, deployment_users
from milepost_stack.stack import SERVICES

COMMANDS = ("job.submitted.#",)
EVENTS = ("job.started.#", "job.progressed.#", "job.succeeded.#", "job.failed.#")


LATE = timedelta(seconds=5)
"""A job that waits for this much longer than it should is held back."""


def restart_broker(scene: Scene) -> Proof:
    """Restart RabbitMQ with SIGTERM, for its quorum queues have one member only."""
    cluster = scene.cluster
    before = cluster.pid("rabbitmq")
    with cluster.held_down("rabbitmq"):
        cluster.stop("rabbitmq")
        refused = not probes.broker_answers(cluster)
    return Proof({"restart of RabbitMQ": cluster.pid("rabbitmq") != before, "connection refused": refused})


def stop_dead_lettering(scene: Scene) -> Proof:
    """End what passes messages on when their delay is over, as RabbitMQ may do at its start (its issue 16652)."""
    cluster = scene.cluster
    cluster.rabbitmqctl("eval", "ok = supervisor:terminate_child(rabbit_sup, rabbit_fifo_dlx_sup).")
    jobs = scene.submit(10, "raise-once")

    def held_back() -> int:
        late = [one for one in map(scene.document, jobs) if one.get("status") == "retrying"]
        return sum(datetime.fromisoformat(str(one["run_at"])) + LATE < datetime.now(UTC) for one in late)

    stuck = wait_for(held_back, within=20, at_least=len(jobs))
    scene.all_end(jobs, within=300)
    with cluster.held_down("rabbitmq"):
        cluster.stop("rabbitmq")
    return Proof({"jobs held back": stuck})


def restart_while_jobs_end(scene: Scene) -> Proof:
    """Restart RabbitMQ so that jobs end meanwhile; half of them have a cancel pending that they never check."""
    cluster = scene.cluster
    jobs = [job for n in range(12) for job in scene.submit(1, "deaf", 2_000 + 250 * n)]
    running = wait_for(lambda: scene.started(jobs), within=10, at_least=len(jobs))
    scene.cancel(jobs[::2])
    with cluster.held_down("rabbitmq"):
        before = _finished(scene, jobs)
        cluster.stop("rabbitmq")
        during = wait_for(lambda: _finished(scene, jobs) - before, within=8, at_least=len(jobs))
    return Proof({"jobs running": running, "handlers returned meanwhile": during})


def _finished(scene: Scene, jobs: Sequence[Submitted]) -> int:
    finishes = scene.executions().finishes
    return sum(finishes[one.nonce] > 0 for one in jobs)


def alarm(set_words: tuple[str, ...], clear_words: tuple[str, ...], *, seconds: float) -> Act:
    """Make RabbitMQ block all publishers."""

    def act(scene: Scene) -> Proof:
        cluster = scene.cluster
        cluster.rabbitmqctl(*set_words)
        try:
            with scene.lasting(seconds):
                blocked = wait_for(lambda: probes.blocked_connections(cluster), within=10)
        finally:
            cluster.rabbitmqctl(*clear_words)
        return Proof({"connections blocked": blocked})

    return act


def block_memory(seconds: float) -> Act:
    """Raise RabbitMQ's memory alarm."""
    words = "set_vm_memory_high_watermark"
    return alarm((words, "0"), (words, "0.4"), seconds=seconds)


def spoil(scene: Scene) -> Proof:
    """Publish unreadable messages among the others."""
    bodies = (b"garbage", b"{}", b'{"options":5,"actor_name":["x"],"queue_name":"default"}', b"\xff" * 1_000)
    cluster = scene.cluster
    poison = cluster.topology.poison_queue.name
    before, keys = probes.depth(cluster, poison), _keys(scene.pace)

    async def inject(connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)  # the outcome does not matter
        exchange = await channel.get_exchange(cluster.topology.jobs.name, ensure=False)
        for body, key in zip(cycle(bodies), keys, strict=False):
            await exchange.publish(aio_pika.Message(body), key)

    for _ in range(3):
        cluster.at_broker(inject)
        time.sleep(1)
    parked = wait_for(lambda: probes.depth(cluster, poison) - before, within=10, at_least=3 * len(keys))
    return Proof({"messages parked as poison": parked})


def _keys(pace: Pace) -> list[str]:
    return ["job.submitted.default.chaos", "job.started.default.chaos"] * pace.times(8)


def repeat(share: float, keys: tuple[str, ...], *, hold: int, seconds: float) -> Act:
    """Publish a share of the messages again, shuffled in groups of up to `hold`."""

    def act(scene: Scene) -> Proof:
        chance = random.Random(scene.pace.seed)
        name = scene.cluster.topology.jobs.name
        # Only an impersonator may publish as the user who published a message first.
        scene.cluster.rabbitmqctl("set_user_tags", "milepost-operator", "administrator", "impersonator")

        async def again(connection: AbstractConnection) -> int:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.get_exchange(name, ensure=False)
            queue = await channel.declare_queue(exclusive=True)
            for key in keys:
                await queue.bind(exchange, key)
            kept: list[aio_pika.abc.AbstractIncomingMessage] = []
            ends, confirmed = time.monotonic() + scene.pace.seconds(seconds), 0
            while time.monotonic() < ends or kept:
                message = await queue.get(no_ack=True, fail=False)
                if message is not None and not message.headers.get("again") and chance.random() < share:
                    kept.append(message)
                if len(kept) >= hold or (kept and time.monotonic() >= ends):
                    chance.shuffle(kept)
                    for one in kept:
                        copy = aio_pika.Message(
                            one.body,
                            headers={"again": 1},
                            delivery_mode=2,
                            user_id=one.user_id,
                            correlation_id=one.correlation_id,
                            content_type=one.content_type,
                        )
                        await exchange.publish(copy, one.routing_key or "")
                        confirmed += 1
                    kept = []
            return confirmed

        return Proof({"messages published again": scene.cluster.at_broker(again)})

    return act


def revoke(scene: Scene) -> Proof:
    """Revoke every service's permission to write, and restore it.

    RabbitMQ caches a channel's permissions: the services notice it on new channels only, so their connections are
    closed.
    """
    cluster, before = scene.cluster, scene.load.refusals
    try:
        for user in _services():
            assert user.broker is not None
            cluster.rabbitmqctl("set_permissions", user.name, user.broker.configure, "^$", user.broker.read)
        with scene.lasting(10):
            cluster.rabbitmqctl("close_all_connections", "permission revoked")
            refused = wait_for(lambda: scene.load.refusals - before, within=10, at_least=3)
    finally:
        cluster.restore_users()
    return Proof({"submissions refused": refused})


def rotate_password(scene: Scene) -> Proof:
    """Change the services' passwords without telling them: new connections are refused."""
    cluster = scene.cluster
    try:
        for user in _services():
            cluster.rabbitmqctl("change_password", user.name, "another")
        with scene.lasting(10):
            killed = sum(cluster.kill(cluster.names(kind)[0]) for kind in ("gateway", "processor", "tracker"))
            refused = not probes.broker_answers(cluster)
    finally:
        cluster.restore_users()
    return Proof({"services killed": killed, "connection refused": refused})


def _services() -> list[User]:
    """Return the services' users of RabbitMQ."""
    return [user for user in deployment_users(Topology().namespace) if user.role in SERVICES]
