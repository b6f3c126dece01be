"""Measures HTTP, Redis and RabbitMQ by themselves: no system that is built on them can be faster.

The two HTTP apps, in `peers/floor_apps.py`, answer the same bytes for every path.
"""

import asyncio
import os
import subprocess
import time

import aio_pika
import load
from measurements import started, wait_until_answering
from systems import FLOORS, System
from yarl import URL

MEASURE_SECONDS = 4
CONNECTIONS = 50
JOB_ID = "06gvrfugk5uqp4ai689fqgvn1s0s43st4sfvhj6i"


async def measure() -> dict[str, dict[str, float]]:
    """Return the figures of each floor."""
    figures = {system.name: await _polls(system) for system in FLOORS}
    figures["redis-benchmark GET"] = {"calls/s, 50 connections": _redis_gets()}
    figures["aio-pika publish-confirm"] = {"messages/s, 50 at once": await _confirmed_publishes()}
    return figures


async def _polls(system: System) -> dict[str, float]:
    with started(system):
        await wait_until_answering(system)
        request = system.poll(JOB_ID)
        for seconds in (1, MEASURE_SECONDS):  # the first run warms up
            requests = load.for_seconds(seconds, lambda _: request)
            sample = await load.run(system.url, requests, connections=CONNECTIONS)
        return {"polls/s, 50 connections": sample.expect(200).rate}


def _redis_gets() -> float:
    port = URL(os.environ["MILEPOST_REDIS_URL"]).port
    command = ["redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS), "-n", "200000", "-t", "get", "--csv"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))


async def _confirmed_publishes() -> float:
    """Return the rate of persistent messages of 200 bytes to one quorum queue over one channel, each confirmed."""
    connection = await aio_pika.connect(os.environ["MILEPOST_RABBITMQ_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue("bench.floor", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"x" * 200, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        end, sent = time.perf_counter() + MEASURE_SECONDS, 0

        async def publish() -> None:
            nonlocal sent
            while time.perf_counter() < end:
                await channel.default_exchange.publish(message, queue.name)
                sent += 1

        await asyncio.gather(*(publish() for _ in range(CONNECTIONS)))
        await channel.queue_delete(queue.name, if_unused=False, if_empty=False)
    return sent / MEASURE_SECONDS
