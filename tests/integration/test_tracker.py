"""The tracker's consumer with real parts: poison is parked alone, and a batch is acknowledged once it is stored."""

import asyncio
from datetime import timedelta

import aio_pika
import pytest
from job_histories import RETENTION
from samples import BEAT, ID, RUNNING, SAMPLES, SUBMITTED
from waiting import wait_until_async

from milepost_contracts.envelope import encode
from milepost_contracts.events import JOB_EVENTS, JobProgressed, JobSubmitted, encode_event
from milepost_contracts.fleet import ProcessorBeat, encode_fleet
from milepost_tracker.consumer import Batching, RabbitConsumer
from milepost_tracker.fleet import RedisFleetStore
from milepost_tracker.outbox import RabbitOutbox
from milepost_tracker.projector import FleetProjector, StatusProjector
from milepost_tracker.store import RedisStatusStore
from milepost_tracker.verdicts import Verdicts

ENDS = ("job.succeeded", "job.failed", "job.canceled")
BATCHING = Batching(size=50, prefetch=200)


@pytest.fixture
async def trackers(rabbitmq_url, redis, keys, topology):
    """Start trackers; they end with the test."""
    started = []

    async def start():
        store = RedisStatusStore(redis, keys, retention=RETENTION, live_for=timedelta(days=30))
        outbox = RabbitOutbox(rabbitmq_url, topology)
        status = StatusProjector(store, Verdicts(store, outbox), outbox)
        fleet = FleetProjector(RedisFleetStore(redis, keys))
        consumer = RabbitConsumer(
            rabbitmq_url,
            topology,
            {
                topology.lifecycle: status.project,
                topology.progress: status.project,
                topology.fleet_queue: fleet.project,
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

    async def send(exchange, key, body):
        target = await channel.get_exchange(exchange.name, ensure=False)
        await target.publish(aio_pika.Message(body), key)

    return send


async def ready_in(connection, queue):
    channel = await connection.channel()
    declared = await channel.declare_queue(queue.name, passive=True)
    await channel.close()
    return declared.declaration_result.message_count


async def parked(connection, topology, wanted):
    return await wait_until_async(
        lambda: _is(connection, topology.parked, wanted), within=10, what=f"{wanted} messages parked"
    )


async def _is(connection, queue, wanted):
    return await ready_in(connection, queue) == wanted


@pytest.mark.parametrize("which", ["lifecycle", "progress", "fleet"])
async def test_poison_is_parked_alone_and_the_rest_goes_on(trackers, publish, connection, topology, redis, keys, which):
    """Whichever queue it came by, also those that the broker does not dead-letter from."""
    await trackers()
    exchange, key, good = {
        "lifecycle": (topology.jobs, "job.submitted.default.count", encode_event(JobSubmitted(job=SUBMITTED))),
        "progress": (topology.jobs, "job.progressed.default.count", encode_event(JobProgressed(job=RUNNING))),
        "fleet": (topology.fleet, "processor.beat", encode_fleet(ProcessorBeat(beat=BEAT))),
    }[which]
    other_version = encode(SAMPLES[0]).replace(b".v1", b".v9")
    bad = [b"garbage", b"{}", other_version, encode(SAMPLES[-1]) if which != "fleet" else encode(SAMPLES[0])]
    for body in (bad[0], bad[1], good, bad[2], bad[3]):
        await publish(exchange, key, body)
    await parked(connection, topology, len(bad))
    wanted = keys.processor(BEAT.instance) if which == "fleet" else keys.job(ID)
    await wait_until_async(lambda: redis.exists(wanted), within=10, what="the good message is projected")


@pytest.mark.parametrize("count", [1, 2, 8])
async def test_many_trackers_end_in_the_view_that_one_would(
    trackers, publish, connection, topology, redis, keys, count
):
    """Competing consumers, no partitions: 300 jobs' events over one to eight trackers, all there, all final."""
    for _ in range(count):
        await trackers()
    jobs = [f"job{n}" for n in range(300)]
    ends = []
    events = [sample for sample in SAMPLES if isinstance(sample, JOB_EVENTS) and sample.fact not in ENDS]
    for sample in (*events, next(sample for sample in SAMPLES if sample.fact == "job.succeeded")):
        for job_id in jobs:
            event = sample.model_copy(update={"job": sample.job.model_copy(update={"id": job_id})})
            ends.append(publish(topology.jobs, event.routing_key, encode_event(event)))
    await asyncio.gather(*ends)

    async def statuses():
        async with redis.pipeline(transaction=False) as pipe:
            for job_id in jobs:
                pipe.hget(keys.job(job_id), "status")
            return set(await pipe.execute()) == {b"succeeded"}

    await wait_until_async(statuses, within=30, what="every job has succeeded")
    assert 0 == await ready_in(connection, topology.parked)


async def test_what_is_not_stored_is_not_acknowledged(rabbitmq_url, connection, topology, publish):
    """A tracker that can't write gives its batch back when it goes."""

    async def never(deliveries):
        await asyncio.Event().wait()
        return []

    consumer = RabbitConsumer(rabbitmq_url, topology, {topology.lifecycle: never}, BATCHING)
    consumer.link.start()
    await asyncio.wait_for(consumer.link.wait_up(), 10)
    await publish(topology.jobs, "job.submitted.default.count", encode_event(JobSubmitted(job=SUBMITTED)))
    await wait_until_async(lambda: _is(connection, topology.lifecycle, 0), within=10, what="it is delivered")
    await consumer.close()
    await wait_until_async(lambda: _is(connection, topology.lifecycle, 1), within=10, what="it is given back")


async def test_a_reader_that_fails_is_told(rabbitmq_url, topology, connection, publish):
    """A tracker that no longer reads must not look healthy: the process ends with the error."""

    async def broken(deliveries):
        raise ZeroDivisionError

    consumer = RabbitConsumer(rabbitmq_url, topology, {topology.lifecycle: broken}, BATCHING)
    consumer.link.start()
    await asyncio.wait_for(consumer.link.wait_up(), 10)
    await publish(topology.jobs, "job.submitted.default.count", encode_event(JobSubmitted(job=SUBMITTED)))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(consumer.failed, 10)
    await consumer.close()


async def test_a_queue_that_was_deleted_under_the_tracker_is_read_again(
    trackers, publish, connection, topology, redis, keys
):
    """The broker cancels its consumer; nobody else tells. The tracker owns the queue: it begins anew."""
    consumer = await trackers()
    first = consumer.link.connection
    channel = await connection.channel()
    await channel.queue_delete(topology.lifecycle.name)

    async def anew():
        return consumer.link.connection not in (None, first)

    await wait_until_async(anew, within=10, what="the tracker has begun anew")
    await publish(topology.jobs, "job.submitted.default.count", encode_event(JobSubmitted(job=SUBMITTED)))
    await wait_until_async(lambda: redis.exists(keys.job(ID)), within=10, what="the event is projected")
