"""What the parts cost by themselves: the floors that no system on top of them can be below.

The two HTTP floors answer the same bytes for every path. Their apps are in `peers/floor_apps.py`.
"""

import asyncio
import os
import subprocess
import time

import aio_pika
import load
from systems import FLOORS, System
from turn import answering, running
from yarl import URL

SECONDS = 4
CONNECTIONS = 50
JOB = "06gvrfugk5uqp4ai689fqgvn1s0s43st4sfvhj6i"


async def measure() -> dict[str, dict[str, float]]:
    """Return the figures of each floor."""
    found = {system.name: await _polls(system) for system in FLOORS}
    found["redis-benchmark GET"] = {"calls/s, 50 connections": _redis_gets()}
    found["aio-pika publish-confirm"] = {"messages/s, 50 at once": await _confirmed_publishes()}
    return found


async def _polls(system: System) -> dict[str, float]:
    with running(system):
        await answering(system)
        request = system.look(JOB)
        for seconds in (1, SECONDS):  # the first one warms up
            every = load.for_seconds(seconds, lambda _: request)
            sample = await load.run(system.url, every, connections=CONNECTIONS)
        return {"polls/s, 50 connections": sample.expect(200).rate}


def _redis_gets() -> float:
    port = URL(os.environ["MILEPOST_REDIS_URL"]).port
    words = ["redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS), "-n", "200000", "-t", "get", "--csv"]
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(answer.stdout.splitlines()[-1].split(",")[1].strip('"'))


async def _confirmed_publishes() -> float:
    """Persistent messages of 200 bytes to one quorum queue, each waited for, over one channel."""
    connection = await aio_pika.connect(os.environ["MILEPOST_RABBITMQ_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue("bench.floor", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"x" * 200, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        until, sent = time.perf_counter() + SECONDS, 0

        async def publish() -> None:
            nonlocal sent
            while time.perf_counter() < until:
                await channel.default_exchange.publish(message, queue.name)
                sent += 1

        await asyncio.gather(*(publish() for _ in range(CONNECTIONS)))
        await channel.queue_delete(queue.name, if_unused=False, if_empty=False)
    return sent / SECONDS
