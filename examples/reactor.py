"""A service of another team that reacts to succeeded jobs: plain aio-pika, no code of Milepost.

Its own queue is bound to the topic exchange, so it misses no event while it is down. Events are delivered at least
once: a redelivered event has the same `id`.
"""

import asyncio
import json
import os

import aio_pika

BROKER = os.environ.get("MILEPOST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1/")
# A full queue loses its oldest events. (One that refused new ones would slow Milepost down.)
ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": 100_000, "x-overflow": "drop-head"}
EXCHANGE = os.environ.get("MILEPOST_NAMESPACE", "milepost") + ".jobs"


async def main() -> None:
    connection = await aio_pika.connect_robust(BROKER)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=20)
        # Jobs of all types; for one type: job.succeeded.*.crunch
        queue = await channel.declare_queue("billing.milepost", durable=True, arguments=ARGUMENTS)
        await queue.bind(await channel.get_exchange(EXCHANGE), "job.succeeded.#")
        print("listening", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():  # acknowledged after the block
                    event = json.loads(message.body)  # a CloudEvent
                    job = event["data"]
                    print(event["id"], job["type"], job["id"], json.dumps(job["result"])[:80], flush=True)


if __name__ == "__main__":
    asyncio.run(main())
