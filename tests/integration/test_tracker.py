"""The tracker's consumer with real parts: dead-lettering of unreadable messages, and acknowledgement of batches."""

import asyncio
from datetime import timedelta

import aio_pika
import pytest
from job_histories import LONG_RETENTION
from published import published
from samples import HEARTBEAT, ID, RUNNING, SAMPLES, SUBMITTED
from trusted import TRUST_ONE_USER
from waiting import wait_until_async

from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.job_events import JOB_EVENTS, JobProgressed, JobSubmitted
from milepost_contracts.messages.worker_events import ProcessorHeartbeat
from milepost_rabbit.publisher import RabbitPublisher
from milepost_tracker.adapters.rabbit.consumer import Batching, RabbitConsumer
from milepost_tracker.adapters.rabbit.event_publisher import RabbitEventPublisher
from milepost_tracker.adapters.rabbit.message_router import RabbitMessageRouter
from milepost_tracker.adapters.redis.job_counts import RedisJobCounts
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.adapters.redis.worker_store import RedisWorkerStore
from milepost_tracker.core.projector import StatusProjector, WorkerProjector
from milepost_tracker.core.reaper import Reaper

ENDS = ("job.succeeded", "job.failed", "job.canceled")
SUBMISSION, PROGRESS = JobSubmitted(job=SUBMITTED), JobProgressed(job=RUNNING)
BATCHING = Batching(size=50, prefetch=200)


@pytest.fixture
async def trackers(rabbitmq_url, redis, keys, topology):
    """Return a function that starts trackers; they are stopped after the test."""
    started = []

    async def start():
        store = RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=timedelta(days=30))
        confirming = RabbitPublisher(rabbitmq_url, name="test")
        publisher = RabbitEventPublisher(confirming, topology)
        status = StatusProjector(
            TRUST_ONE_USER, store, Reaper(store, RedisJobCounts(redis, keys), publisher), publisher
        )
        workers = WorkerProjector(
            TRUST_ONE_USER, RedisWorkerStore(redis, keys), RabbitMessageRouter(confirming, topology)
        )
        consumer = RabbitConsumer(
            rabbitmq_url,
            topology,
            {
                topology.lifecycle: status.project,
                topology.progress: status.project,
                topology.worker_queue: workers.project,
            },
            BATCHING,
        )
        started.append(consumer)
        consumer.link.start()
        await asyncio.wait_for(consumer.link.wait_up(), 10)
        return consumer

    yield start
    for consumer in started:
        await consumer.close()


@pytest.fixture
async def publish(connection, topology):
    channel = await connection.channel()

    async def send(exchange, key, message):
        target = await channel.get_exchange(exchange.name, ensure=False)
        made = aio_pika.Message(message) if isinstance(message, bytes) else published(message)
        await target.publish(made, key)

    return send


async def ready_in(connection, queue):
    channel = await connection.channel()
    declared = await channel.declare_queue(queue.name, passive=True)
    await channel.close()
    return declared.declaration_result.message_count


async def wait_for_dead_letters(connection, topology, wanted):
    return await wait_until_async(
        lambda: _has_ready(connection, topology.dead_letter_queue, wanted),
        within=10,
        what=f"{wanted} messages are dead-lettered",
    )


async def _has_ready(connection, queue, wanted):
    return await ready_in(connection, queue) == wanted


@pytest.mark.parametrize("source", ["lifecycle", "progress", "workers"])
async def test_unreadable_messages_are_dead_lettered_and_the_rest_is_applied(
    trackers, publish, connection, topology, redis, keys, source
):
    """From every queue, also from those that the broker does not dead-letter from."""
    await trackers()
    exchange, key, good = {
        "lifecycle": (topology.jobs, SUBMISSION.routing_key, SUBMISSION),
        "progress": (topology.jobs, PROGRESS.routing_key, PROGRESS),
        "workers": (
            topology.workers,
            "processor.heartbeat",
            ProcessorHeartbeat(heartbeat=HEARTBEAT),
        ),
    }[source]
    other_version = encode(SAMPLES[0]).replace(b".v1", b".v9")
    bad = [b"garbage", b"{}", other_version, encode(SAMPLES[-1]) if source != "workers" else encode(SAMPLES[0])]
    for body in (bad[0], bad[1], good, bad[2], bad[3]):
        await publish(exchange, key, body)
    await wait_for_dead_letters(connection, topology, len(bad))
    wanted = keys.processor(HEARTBEAT.instance) if source == "workers" else keys.job(ID)
    await wait_until_async(lambda: redis.exists(wanted), within=10, what="the good message is projected")


@pytest.mark.parametrize("count", [1, 2, 8])
async def test_several_trackers_build_the_same_view_as_one(trackers, publish, connection, topology, redis, keys, count):
    """One to eight competing consumers share the events of 300 jobs; every job has its final state."""
    for _ in range(count):
        await trackers()
    jobs = [f"job{n}" for n in range(300)]
    publishes = []
    events = [sample for sample in SAMPLES if isinstance(sample, JOB_EVENTS) and sample.fact not in ENDS]
    for sample in (*events, next(sample for sample in SAMPLES if sample.fact == "job.succeeded")):
        for job_id in jobs:
            event = sample.model_copy(update={"job": sample.job.model_copy(update={"id": job_id})})
            publishes.append(publish(topology.jobs, event.routing_key, event))
    await asyncio.gather(*publishes)

    async def all_succeeded():
        async with redis.pipeline(transaction=False) as pipe:
            for job_id in jobs:
                pipe.hget(keys.job(job_id), "status")
            return set(await pipe.execute()) == {b"succeeded"}

    await wait_until_async(all_succeeded, within=30, what="every job has succeeded")
    assert 0 == await ready_in(connection, topology.dead_letter_queue)


async def test_a_batch_that_was_not_stored_is_redelivered(rabbitmq_url, connection, topology, publish):
    """A tracker that can't write returns its batch to the queue when it closes."""

    async def never(deliveries):
        await asyncio.Event().wait()
        return []

    consumer = RabbitConsumer(rabbitmq_url, topology, {topology.lifecycle: never}, BATCHING)
    consumer.link.start()
    await asyncio.wait_for(consumer.link.wait_up(), 10)
    await publish(topology.jobs, SUBMISSION.routing_key, SUBMISSION)
    await wait_until_async(lambda: _has_ready(connection, topology.lifecycle, 0), within=10, what="it is delivered")
    await consumer.close()
    await wait_until_async(lambda: _has_ready(connection, topology.lifecycle, 1), within=10, what="it is requeued")


async def test_an_exception_in_the_projector_ends_the_process(rabbitmq_url, topology, connection, publish):
    """A tracker that no longer consumes must not look healthy: `failed` has the exception."""

    async def broken(deliveries):
        raise ZeroDivisionError

    consumer = RabbitConsumer(rabbitmq_url, topology, {topology.lifecycle: broken}, BATCHING)
    consumer.link.start()
    await asyncio.wait_for(consumer.link.wait_up(), 10)
    await publish(topology.jobs, SUBMISSION.routing_key, SUBMISSION)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(consumer.failed, 10)
    await consumer.close()


async def test_a_deleted_queue_is_declared_and_consumed_again(trackers, publish, connection, topology, redis, keys):
    """The broker cancels the consumer; the tracker reconnects and declares its queues."""
    consumer = await trackers()
    first = consumer.link.connection
    channel = await connection.channel()
    await channel.queue_delete(topology.lifecycle.name)

    async def reconnected():
        return consumer.link.connection not in (None, first)

    await wait_until_async(reconnected, within=10, what="the tracker has reconnected")
    await publish(topology.jobs, SUBMISSION.routing_key, SUBMISSION)
    await wait_until_async(lambda: redis.exists(keys.job(ID)), within=10, what="the event is projected")
