"""Defects of Dramatiq 2.2: each test fails with stock Dramatiq, and passes with our broker.

Every test runs twice: with the broker that the processor uses, and, as an expected failure, with Dramatiq's own.
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
from dramatiq_seams import Ours, RecordingActor, Stock
from waiting import wait_until, wait_until_async

from milepost_processor.adapters.dramatiq.consumer import CommandConsumer
from milepost_processor.errors import Stopping
from milepost_rabbit.declare import declare
from milepost_rabbit.errors import NotAccepted
from milepost_rabbit.publisher import RabbitPublisher

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


STOCK = pytest.param(Stock, marks=pytest.mark.xfail(strict=True, reason="defect of stock Dramatiq"), id="stock")


@pytest.fixture(params=[pytest.param(Ours, id="ours"), STOCK])
async def kind(request, connection, topology):
    """The broker under test; its queue exists."""
    before = get_encoder()
    await declare(connection, topology.exchanges, (topology.dead_letter_queue, *topology.work_queues(["default"])))
    yield request.param
    set_encoder(before)
    channel = await connection.channel()
    for suffix in ("", ".DQ", ".XQ"):
        await channel.queue_delete(f"{topology.namespace}.stock{suffix}")


@pytest.fixture
def make(kind, rabbitmq_url, topology):
    """Create a broker with an actor; its connections are closed after the test."""
    seams = []

    def made(act):
        seams.append(kind(rabbitmq_url, topology, act))
        return seams[-1]

    yield made
    for seam in seams:
        seam.broker.close()
    # pika leaves the objects of a cut connection to the garbage collector. Collect them here, and not during an
    # unrelated test; the traceback of an expected failure must not keep them alive.
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()


@pytest.fixture
def start(kind, make, monkeypatch):
    """Start a worker; it is stopped after the test."""
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)
    monkeypatch.setattr("milepost_processor.adapters.dramatiq.flow.MOMENT", 60)  # the tests hold messages
    monkeypatch.setattr(
        sys.modules[__name__], "TIMEOUT", 2 if kind is Stock else 10
    )  # expected failures need no longer time-out
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
    """Publish to a queue; an unroutable message is an error, for the test would otherwise prove nothing."""
    channel = await connection.channel(on_return_raises=True)

    async def send(seam, body):
        exchange = await channel.get_exchange(seam.exchange) if seam.exchange else channel.default_exchange
        await exchange.publish(seam.message(body), seam.key)

    return send


def cut(worker, queue):
    """Break the worker's connection, as a network failure would."""
    worker.consumers[queue].consumer.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


TIMEOUT = 10


async def until(ask, what):
    await asyncio.to_thread(wait_until, ask, within=TIMEOUT, what=what)


async def prefetch(worker, queue):
    """Have a message held that can't be started: our worker takes none by itself, stock Dramatiq does."""
    if isinstance(worker.consumers[queue].consumer, CommandConsumer):
        worker.consumers[queue].consumer.fetch()
    await until(lambda: worker.work_queue.qsize() == 1, "a message is prefetched")


async def wait_for_callbacks(worker, queue):
    """Wait until the consumer's thread has run its pending callbacks, and so sent its acknowledgements."""
    sent = threading.Event()
    worker.consumers[queue].consumer.connection.add_callback_threadsafe(sent.set)
    await until(sent.is_set, "the consumer has run its callbacks")


@pytest.mark.parametrize("wrong", [{"actor_name": ["x"]}, {"args": 7}])
async def test_a_body_of_wrong_types_does_not_block_its_queue(start, publish, kind, wrong):
    """It is valid JSON and no valid message; the message behind it still runs."""
    if kind is Stock and "args" in wrong:
        pytest.skip("stock Dramatiq handles this one")
    acts = RecordingActor()
    seam, _ = start(acts)
    await publish(seam, seam.body("bad", **wrong))
    await publish(seam, seam.body("good"))
    await until(lambda: "good" in acts.done, "the good one has run")


async def test_a_message_for_another_queue_does_not_end_a_worker_thread(start, publish):
    """One such message per thread would leave a process without threads that looks healthy."""
    acts = RecordingActor()
    seam, worker = start(acts, threads=1)
    await publish(seam, seam.body("bad", queue_name="elsewhere"))
    await publish(seam, seam.body("good"))
    await until(lambda: "good" in acts.done, "the good one has run")
    assert all(thread.is_alive() for thread in worker.workers)


async def test_a_message_prefetched_over_a_lost_connection_runs_once(start, publish, kind):
    """It is redelivered; the copy in memory must not start."""
    acts = RecordingActor()
    first = acts.hold("a")
    seam, worker = start(acts)
    await publish(seam, seam.body("a"))
    await publish(seam, seam.body("b"))
    await until(lambda: acts.calls, "a runs")
    await prefetch(worker, seam.queue)
    before = worker.consumers[seam.queue].consumer
    cut(worker, seam.queue)
    await until(lambda: worker.consumers[seam.queue].consumer not in (before, None), "it consumes again")
    if kind is Stock:
        await until(lambda: worker.work_queue.qsize() >= 3, "both are delivered again")
    first.set()
    await until(lambda: acts.done.count("a") == 2 and "b" in acts.done, "both have run again")
    await until(lambda: not worker.work_queue.unfinished_tasks, "all is done")
    assert 1 == acts.done.count("b")


async def test_a_job_that_ends_after_a_reconnect_does_not_acknowledge_another_message(start, publish, connection):
    """Its delivery tag belongs to other_consumer message by then."""
    acts = RecordingActor()
    first, second = acts.hold("a"), acts.hold("b")
    seam, worker = start(acts, threads=2)
    await publish(seam, seam.body("a"))
    await until(lambda: acts.calls, "a runs")

    # Another consumer takes the redelivered job, so that the next message gets the same delivery tag here.
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
    await wait_for_callbacks(worker, seam.queue)
    cut(worker, seam.queue)  # b was not acknowledged: it must come back
    await until(lambda: [name for name, _ in acts.calls].count("b") == 2, "b is delivered again")
    second.set()
    await queue.cancel(tag)


async def test_a_delivery_has_the_brokers_delivery_count(start, publish):
    """The delivery number is derived from it, and so survives a loss of Redis."""
    acts = RecordingActor()
    first = acts.hold("a")
    seam, worker = start(acts, threads=2)
    await publish(seam, seam.body("a"))
    await until(lambda: acts.calls, "a runs")
    cut(worker, seam.queue)
    await until(lambda: len(acts.calls) == 2, "a is delivered again")
    first.set()
    assert [0, 1] == [count for _, count in acts.calls]


@pytest.fixture
async def other_consumer(connection, publish):
    """Another consumer of the queue; returns the list of the bodies that it receives."""

    async def take(seam):
        bodies = []

        async def note(message):
            bodies.append(message.body)
            await message.ack()

        channel = await connection.channel()
        await (await channel.get_queue(seam.queue, ensure=False)).consume(note)
        return bodies

    return take


async def test_a_stopping_worker_releases_its_prefetched_messages(start, publish, other_consumer):
    """Other consumers get what it has not started, and what arrives later, although its last handler still runs."""
    acts = RecordingActor()
    first = acts.hold("a")
    seam, worker = start(acts)
    await publish(seam, seam.body("a"))
    await publish(seam, seam.body("b"))
    await until(lambda: acts.calls, "a runs")
    await prefetch(worker, seam.queue)
    stopping = asyncio.create_task(asyncio.to_thread(worker.stop, 20_000))
    try:
        others = await other_consumer(seam)
        await publish(seam, seam.body("c"))
        await until(lambda: all(any(name in body for body in others) for name in (b'"b"', b'"c"')), "it has both")
        assert ["a"] == [name for name, _ in acts.calls]
    finally:
        first.set()
        await stopping
    assert ["a"] == acts.done


async def test_a_stopping_worker_does_not_consume_after_a_reconnect(start, publish, other_consumer):
    """If its connection was lost, the new consumer does not start to consume."""
    acts = RecordingActor()
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
        await wait_for_callbacks(worker, seam.queue)
        others = await other_consumer(seam)
        await publish(seam, seam.body("b"))
        await publish(seam, seam.body("c"))  # a worker that consumed would get one of two
        await until(lambda: all(any(name in body for body in others) for name in (b'"b"', b'"c"')), "it has both")
    finally:
        first.set()
        await stopping
    assert not {"b", "c"} & {name for name, _ in acts.calls}


async def test_a_job_refused_by_a_stopping_worker_is_not_redelivered_to_it(start, publish, other_consumer):
    """It would be redelivered repeatedly, and each time counts towards the delivery limit."""
    calls = []

    def refuse(name, count):
        calls.append(name)
        raise Stopping

    seam, worker = start(refuse)
    await publish(seam, seam.body("a"))
    await until(lambda: calls, "it came")
    await asyncio.to_thread(worker.stop, 5_000)
    others = await other_consumer(seam)
    await until(lambda: others, "the other one has it")
    assert 1 == len(calls)


async def test_a_message_whose_retry_cannot_be_published_is_not_acknowledged(start, publish, connection, topology):
    """It must still be in its queue, or be dead-lettered by the broker."""
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
        found = [
            await channel.declare_queue(name, passive=True) for name in (seam.queue, topology.dead_letter_queue.name)
        ]
        await channel.close()
        return sum(queue.declaration_result.message_count for queue in found)

    await wait_until_async(still_there, within=5, what="the message is still there")


def unable(*_, **__):
    raise ConnectionError("the broker takes nothing")


async def test_no_delay_queue_or_dead_letter_queue_of_dramatiq_is_declared(start, kind, connection, topology):
    """Its delay queue fills a worker's memory, and its dead letters expire."""
    seam, _ = start(RecordingActor())
    for suffix in (".DQ", ".XQ"):
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.declare_queue(seam.queue + suffix, passive=True)


async def test_an_unroutable_publish_raises(kind, make, rabbitmq_url, connection, topology):
    """A message that no queue takes must not look published."""
    if kind is Stock:
        seam = make(RecordingActor())
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
