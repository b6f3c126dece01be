"""The traps of Dramatiq 2.2 (guarantees §3), each shown to catch stock Dramatiq and not us.

Every test runs twice: with the broker that the processor uses, and, as one that must fail, with Dramatiq's own.
"""

import asyncio
import gc
import socket
import sys
import threading

import aio_pika
import dramatiq
import pytest
from dramatiq.message import get_encoder, set_encoder
from dramatiq_seams import Acts, Ours, Stock
from waiting import wait_until, wait_until_async

from milepost_processor.errors import Stopping
from milepost_rabbit.declare import declare
from milepost_rabbit.errors import NotAccepted
from milepost_rabbit.publisher import RabbitPublisher

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


STOCK = pytest.param(Stock, marks=pytest.mark.xfail(strict=True, reason="the trap"), id="stock")


@pytest.fixture(params=[pytest.param(Ours, id="ours"), STOCK])
async def kind(request, connection, topology):
    """Which broker; its queue exists."""
    before = get_encoder()
    await declare(connection, topology.exchanges, (topology.parked, *topology.work_queues(["default"])))
    yield request.param
    set_encoder(before)
    channel = await connection.channel()
    for suffix in ("", ".DQ", ".XQ"):
        await channel.queue_delete(f"{topology.namespace}.stock{suffix}")


@pytest.fixture
def make(kind, rabbitmq_url, topology):
    """Make a broker with an actor; its connections end with the test."""
    seams = []

    def made(act):
        seams.append(kind(rabbitmq_url, topology, act))
        return seams[-1]

    yield made
    for seam in seams:
        seam.broker.close()
    # pika leaves what belongs to a connection that was cut to the collector. It goes here and not in a test that has
    # nothing to do with it: not even the traceback of a trap that was stepped into may keep it.
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()


@pytest.fixture
def start(kind, make, monkeypatch):
    """Start a worker; it ends with the test."""
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)
    monkeypatch.setattr(
        sys.modules[__name__], "WITHIN", 2 if kind is Stock else 10
    )  # what never comes is not worth more
    workers = []

    def started(act, *, threads=1):
        seam = make(act)
        worker = seam.worker(seam.broker, worker_threads=threads, worker_timeout=50)
        worker.queue_prefetch = 2
        workers.append(worker)
        worker.start()
        return seam, worker

    yield started
    for worker in workers:
        worker.stop(timeout=2_000)


@pytest.fixture
async def publish(connection):
    """Publish to a queue; what no queue takes is an error, for without it a trap is not stepped into."""
    channel = await connection.channel(on_return_raises=True)

    async def send(seam, body):
        await channel.default_exchange.publish(aio_pika.Message(body), seam.queue)

    return send


def cut(worker, queue):
    """Break the worker's connection under it, as a network would."""
    worker.consumers[queue].consumer.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


WITHIN = 10


async def until(ask, what):
    await asyncio.to_thread(wait_until, ask, within=WITHIN, what=what)


async def turned(worker, queue):
    """Wait until the consumer consumes, if it is to, and has sent what it was asked to: pika does both in order."""
    sent = threading.Event()
    worker.consumers[queue].consumer.connection.add_callback_threadsafe(sent.set)
    await until(sent.is_set, "its consumer has turned")


@pytest.mark.parametrize("wrong", [{"actor_name": ["x"]}, {"args": 7}])
async def test_a_body_of_wrong_types_does_not_block_its_queue(start, publish, kind, wrong):
    """It decodes, and is no message: what lies behind it still runs."""
    if kind is Stock and "args" in wrong:
        pytest.skip("stock Dramatiq gets over this one")
    acts = Acts()
    seam, _ = start(acts)
    await publish(seam, seam.body("bad", **wrong))
    await publish(seam, seam.body("good"))
    await until(lambda: "good" in acts.done, "the good one has run")


async def test_a_message_for_another_queue_does_not_end_the_worker(start, publish):
    """One for each thread would leave none, in a process that looks healthy."""
    acts = Acts()
    seam, worker = start(acts, threads=1)
    await publish(seam, seam.body("bad", queue_name="elsewhere"))
    await publish(seam, seam.body("good"))
    await until(lambda: "good" in acts.done, "the good one has run")
    assert all(thread.is_alive() for thread in worker.workers)


async def test_what_a_lost_connection_had_prefetched_is_not_run_twice(start, publish):
    """It is delivered again; the copy in memory must not start."""
    acts = Acts()
    first = acts.hold("a")
    seam, worker = start(acts)
    await publish(seam, seam.body("a"))
    await publish(seam, seam.body("b"))
    await until(lambda: acts.calls and worker.work_queue.qsize() == 1, "b is prefetched")
    before = worker.consumers[seam.queue].consumer
    cut(worker, seam.queue)
    await until(lambda: worker.consumers[seam.queue].consumer not in (before, None), "it consumes again")
    await until(lambda: worker.work_queue.qsize() >= 3, "both are delivered again")
    first.set()
    await until(lambda: not worker.work_queue.unfinished_tasks, "all is done")
    assert 1 == acts.done.count("b")


async def test_a_job_that_ends_after_a_reconnect_does_not_acknowledge_another_one(start, publish, connection):
    """Its delivery tag means another message by then."""
    acts = Acts()
    first, second = acts.hold("a"), acts.hold("b")
    seam, worker = start(acts, threads=2)
    await publish(seam, seam.body("a"))
    await until(lambda: acts.calls, "a runs")

    # Somebody else is to take the job when it is delivered again, so that the next one gets its tag here.
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    taken = asyncio.Event()

    async def take(message):
        taken.set()

    queue = await channel.get_queue(seam.queue, ensure=False)
    tag = await queue.consume(take)
    before = worker.consumers[seam.queue].consumer
    cut(worker, seam.queue)
    await asyncio.wait_for(taken.wait(), 10)
    await until(lambda: worker.consumers[seam.queue].consumer not in (before, None), "it consumes again")
    await publish(seam, seam.body("b"))
    await until(lambda: "b" in [name for name, _ in acts.calls], "b runs")
    first.set()
    await until(lambda: worker.work_queue.unfinished_tasks == 1, "a has ended")
    await turned(worker, seam.queue)
    cut(worker, seam.queue)  # b was not acknowledged: it must come back
    await until(lambda: [name for name, _ in acts.calls].count("b") == 2, "b is delivered again")
    second.set()
    await queue.cancel(tag)


async def test_a_delivery_says_how_often_it_was_delivered_before(start, publish):
    """The broker counts; without it there is no fence that outlives Redis."""
    acts = Acts()
    first = acts.hold("a")
    seam, worker = start(acts, threads=2)
    await publish(seam, seam.body("a"))
    await until(lambda: acts.calls, "a runs")
    cut(worker, seam.queue)
    await until(lambda: len(acts.calls) == 2, "a is delivered again")
    first.set()
    assert [0, 1] == [count for _, count in acts.calls]


@pytest.fixture
async def another(connection, publish):
    """Somebody else who takes what waits in the queue; returns the list of what comes."""

    async def take(seam):
        bodies = []

        async def note(message):
            bodies.append(message.body)
            await message.ack()

        channel = await connection.channel()
        await (await channel.get_queue(seam.queue, ensure=False)).consume(note)
        return bodies

    return take


async def test_a_worker_that_is_to_stop_holds_nothing_back(start, publish, another):
    """What it has not begun, and what comes meanwhile, is another one's, though its last handler goes on."""
    acts = Acts()
    first = acts.hold("a")
    seam, worker = start(acts)
    await publish(seam, seam.body("a"))
    await publish(seam, seam.body("b"))
    await until(lambda: acts.calls and worker.work_queue.qsize() == 1, "b is prefetched")
    stopping = asyncio.create_task(asyncio.to_thread(worker.stop, 20_000))
    try:
        others = await another(seam)
        await publish(seam, seam.body("c"))
        await until(lambda: all(any(name in body for body in others) for name in (b'"b"', b'"c"')), "it has both")
        assert ["a"] == [name for name, _ in acts.calls]
    finally:
        first.set()
        await stopping
    assert ["a"] == acts.done


async def test_a_worker_that_is_to_stop_takes_nothing_over_a_new_connection_either(start, publish, another):
    """Its connection was lost meanwhile; the consumer that takes its place consumes nothing."""
    acts = Acts()
    first = acts.hold("a")
    seam, worker = start(acts)
    await publish(seam, seam.body("a"))
    await until(lambda: acts.calls, "a runs")
    before = worker.consumers[seam.queue].consumer
    stopping = asyncio.create_task(asyncio.to_thread(worker.stop, 20_000))
    try:
        await until(lambda: not any(thread.running for thread in worker.workers), "it stops")
        cut(worker, seam.queue)
        await until(lambda: worker.consumers[seam.queue].consumer not in (before, None), "it is connected again")
        await turned(worker, seam.queue)
        others = await another(seam)
        await publish(seam, seam.body("b"))
        await publish(seam, seam.body("c"))  # of two, one would be the turn of a worker that consumes
        await until(lambda: all(any(name in body for body in others) for name in (b'"b"', b'"c"')), "it has both")
    finally:
        first.set()
        await stopping
    assert not {"b", "c"} & {name for name, _ in acts.calls}


async def test_a_job_that_can_not_begin_for_the_worker_stops_does_not_come_back_to_it(start, publish, another):
    """It would again and again, and each time counts towards what the broker bears."""
    calls = []

    def refuse(name, count):
        calls.append(name)
        raise Stopping

    seam, worker = start(refuse)
    await publish(seam, seam.body("a"))
    await until(lambda: calls, "it came")
    await asyncio.to_thread(worker.stop, 5_000)
    others = await another(seam)
    await until(lambda: others, "the other one has it")
    assert 1 == len(calls)


async def test_what_can_not_be_put_off_is_not_acknowledged(start, publish, connection, topology):
    """A retry that can't be published: the message must still be there, or parked by the broker in the end."""
    failed = threading.Event()

    def fail(name, count):
        failed.set()
        raise ValueError(name)

    seam, worker = start(fail)
    await until(lambda: worker.consumers[seam.queue].consumer, "it consumes")
    seam.broker.enqueue = unable
    await publish(seam, seam.body("a"))
    await asyncio.to_thread(failed.wait, 10)
    await asyncio.to_thread(worker.stop, 10_000)

    async def still_there():
        channel = await connection.channel()
        found = [await channel.declare_queue(name, passive=True) for name in (seam.queue, topology.parked.name)]
        await channel.close()
        return sum(queue.declaration_result.message_count for queue in found)

    await wait_until_async(still_there, within=5, what="the message is still there")


def unable(*_, **__):
    raise ConnectionError("the broker takes nothing")


async def test_nothing_waits_in_queues_of_its_own(start, kind, connection, topology):
    """No delay queue that floods a worker's memory, no dead letters that expire."""
    seam, _ = start(Acts())
    for suffix in (".DQ", ".XQ"):
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.declare_queue(seam.queue + suffix, passive=True)


async def test_what_returned_was_stored(kind, make, rabbitmq_url, connection, topology):
    """A publish to where nothing is must not look like one that worked."""
    if kind is Stock:
        seam = make(Acts())
        await (await connection.channel()).queue_delete(seam.queue)
        with pytest.raises(dramatiq.errors.ConnectionClosed):
            await asyncio.to_thread(
                seam.broker.channel.basic_publish, "", seam.queue, b"{}", mandatory=seam.broker.confirm_delivery
            )
        return
    publisher = RabbitPublisher(rabbitmq_url, name="test")
    publisher.link.start()
    with pytest.raises(NotAccepted):
        await publisher.publish(topology.jobs, "job.submitted.nowhere.x", b"{}", correlation_id="x", within=5)
    await publisher.link.close()
