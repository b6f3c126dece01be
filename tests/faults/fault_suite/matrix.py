"""The matrix of faults (guarantees §4): what each of them does, and what may come of it."""

import random
import threading
import time
from collections.abc import Callable
from itertools import cycle

import aio_pika
from aio_pika.abc import AbstractConnection

from fault_suite.cluster import Cluster
from fault_suite.scenario import Fault, Pace

THREADS = 8

Act = Callable[[Cluster, Pace], None]


def kill_again_and_again(kind: str, *, every: float, times: int) -> Act:
    """Kill one process of a kind after the other."""

    def act(cluster: Cluster, pace: Pace) -> None:
        for name, _ in zip(cycle(cluster.names(kind)), range(pace.times(times)), strict=False):
            cluster.kill(name)
            time.sleep(max(1.0, pace.seconds(every)))

    return act


def freeze(*kinds: str, seconds: float, one: bool = True) -> Act:
    """Stop processes where they are for a while; the first of each kind, or all."""

    def act(cluster: Cluster, pace: Pace) -> None:
        names = [name for kind in kinds for name in cluster.names(kind)[: 1 if one else None] or [kind]]
        with cluster.frozen(*names):
            time.sleep(pace.seconds(seconds))

    return act


def roll(cluster: Cluster, pace: Pace) -> None:
    """Restart every service in good order, one after the other."""
    del pace
    for kind in ("processor", "tracker", "gateway"):
        for name in cluster.names(kind):
            cluster.terminate(name)


def all_down(*kinds: str, seconds: float) -> Act:
    """Leave all of a kind down for a while."""

    def act(cluster: Cluster, pace: Pace) -> None:
        names = [name for kind in kinds for name in cluster.names(kind)]
        with cluster.held_down(*names):
            for name in names:
                cluster.kill(name)
            time.sleep(pace.seconds(seconds))

    return act


def restart_broker(cluster: Cluster, pace: Pace) -> None:
    """Stop RabbitMQ and start it again; with SIGTERM, for its quorum queues have one member only."""
    del pace
    cluster.terminate("rabbitmq")


def alarm(set_words: tuple[str, ...], clear_words: tuple[str, ...], *, seconds: float) -> Act:
    """Make RabbitMQ block whoever publishes."""

    def act(cluster: Cluster, pace: Pace) -> None:
        cluster.rabbitmqctl(*set_words)
        try:
            time.sleep(pace.seconds(seconds))
        finally:
            cluster.rabbitmqctl(*clear_words)

    return act


def refuse_outcomes(cluster: Cluster, pace: Pace) -> None:
    """Let the broker refuse every event: outcomes and retries can't be published."""
    queue = cluster.topology.lifecycle.name.replace(".", r"\.")
    policy = '{"max-length":0,"overflow":"reject-publish"}'
    cluster.rabbitmqctl("set_policy", "--apply-to", "queues", "refuse", f"^{queue}$", policy)
    try:
        time.sleep(pace.seconds(30))
    finally:
        cluster.rabbitmqctl("clear_policy", "refuse")


def spoil(cluster: Cluster, pace: Pace) -> None:
    """Put messages that nobody can read among the others."""
    bodies = (b"garbage", b"{}", b'{"options":5,"actor_name":["x"],"queue_name":"default"}', b"\xff" * 1_000)

    async def inject(connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)  # whether the broker takes it is all the same
        exchange = await channel.get_exchange(cluster.topology.jobs.name, ensure=False)
        for body, key in zip(cycle(bodies), _keys(pace), strict=False):
            await exchange.publish(aio_pika.Message(body), key)

    for _ in range(3):
        cluster.at_broker(inject)
        time.sleep(1)


def _keys(pace: Pace) -> list[str]:
    return ["job.submitted.default.chaos", "job.started.default.chaos"] * pace.times(8)


def repeat(share: float, keys: tuple[str, ...], *, hold: int, seconds: float) -> Act:
    """Publish a share of what is published again, up to `hold` messages at a time in another order."""

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


def kill_redis(cluster: Cluster, pace: Pace) -> None:
    """End Redis at once, and start it again on what its log holds."""
    del pace
    cluster.kill("redis")
    time.sleep(2)
    cluster.bring_back("redis")


def forget_all(cluster: Cluster, pace: Pace) -> None:
    """FLUSHALL: status, claims, catalogue and all."""
    del pace
    cluster.redis.flushall()


def fill_redis(cluster: Cluster, pace: Pace) -> None:
    """Give Redis no memory to write with."""
    with cluster.redis as redis:
        redis.config_set("maxmemory", "1mb")
        try:
            time.sleep(pace.seconds(20))
        finally:
            redis.config_set("maxmemory", "0")


def delete_queue(cluster: Cluster, pace: Pace) -> None:
    """Unbind the log, which law 1 needs, and bind it again: meanwhile the look for queues does not help."""
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
    """Take the permission to write away, and give it back."""
    cluster.rabbitmqctl("set_permissions", "guest", ".*", "^$", ".*")
    try:
        time.sleep(pace.seconds(10))
    finally:
        cluster.rabbitmqctl("set_permissions", "guest", ".*", ".*", ".*")


def two_at_a_time(cluster: Cluster, pace: Pace) -> None:
    """Random faults, two at once, again and again."""
    chance = random.Random(int(pace.scale * 1_000))
    singles: list[Act] = [
        kill_again_and_again("gateway", every=1, times=2),
        kill_again_and_again("processor", every=1, times=3),
        kill_again_and_again("tracker", every=1, times=2),
        freeze("processor", seconds=6),
        freeze("tracker", seconds=6),
        freeze("redis", seconds=5),
        kill_redis,
        refuse_outcomes,
        spoil,
    ]
    ends = time.monotonic() + pace.seconds(60)
    while time.monotonic() < ends:
        threads = [threading.Thread(target=act, args=(cluster, pace)) for act in chance.sample(singles, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


MATRIX: tuple[Fault, ...] = (
    Fault(name="no fault at all", act=lambda *_: None, star=True),
    Fault(
        name="gateway: kill -9 every 5 s, 6 times",
        act=kill_again_and_again("gateway", every=5, times=6),
        star=True,
    ),
    Fault(name="gateway: frozen for 15 s", act=freeze("gateway", seconds=15), may_be_late=True),
    Fault(
        name="processor: kill -9 every 3 s, 10 times",
        act=kill_again_and_again("processor", every=3, times=10),
        star=True,
        doubled_within=10 * THREADS,
    ),
    Fault(
        name="processor: frozen beyond its heartbeat, then a zombie",
        act=freeze("processor", seconds=25),
        doubled_within=2 * THREADS,
    ),
    Fault(name="rolling restart of all services, under load", act=roll, star=True, doubled_within=3 * THREADS),
    Fault(
        name="tracker: kill -9 every 2 s, 6 times",
        act=kill_again_and_again("tracker", every=2, times=6),
        star=True,
    ),
    Fault(name="all trackers down for 30 s", act=all_down("tracker", seconds=30), recovers_within=60),
    Fault(
        name="RabbitMQ: restarted",
        act=restart_broker,
        star=True,
        doubled_within=3 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="RabbitMQ: frozen for 20 s",
        act=freeze("rabbitmq", seconds=20),
        star=True,
        doubled_within=3 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="RabbitMQ: memory alarm for 20 s",
        act=alarm(("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.4"), seconds=20),
        star=True,
    ),
    Fault(
        name="RabbitMQ: disk alarm for 20 s",
        act=alarm(("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB"), seconds=20),
    ),
    Fault(
        name="outcomes and retries can't be published for 30 s",
        act=refuse_outcomes,
        star=True,
        doubled_within=3 * THREADS,
    ),
    Fault(name="binding of the tracker's queue removed for 5 s", act=delete_queue),
    Fault(name="permission to write revoked for 10 s", act=revoke, doubled_within=3 * THREADS),
    Fault(
        name="handlers that kill their worker: two of them",
        act=lambda _, pace: time.sleep(pace.seconds(10)),
        star=True,
        first=("kill", "kill"),
        doubled_within=8 * 2 * THREADS,
        recovers_within=30,
    ),
    Fault(name="messages that nobody can read, among the others", act=spoil, star=True),
    Fault(
        name="20 % of the commands published again",
        act=repeat(0.2, ("job.submitted.#",), hold=10, seconds=10),
        star=True,
    ),
    Fault(
        name="20 % of the events published again, shuffled by 50",
        act=repeat(0.2, ("job.started.#", "job.progressed.#", "job.succeeded.#", "job.failed.#"), hold=50, seconds=10),
        star=True,
    ),
    Fault(name="Redis: kill -9 and restart", act=kill_redis, star=True),
    Fault(name="Redis: FLUSHALL", act=forget_all, star=True, doubled_within=THREADS, recovers_within=30),
    Fault(name="Redis: frozen for 20 s", act=freeze("redis", seconds=20)),
    Fault(name="Redis: no memory left for 20 s", act=fill_redis),
    Fault(
        name="all at once: two random faults at a time, for a minute",
        act=two_at_a_time,
        may_be_late=True,
        doubled_within=20 * THREADS,
        recovers_within=30,
    ),
)
