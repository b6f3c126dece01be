"""Flow control with a real broker: a processor holds no job that it can't start within a moment."""

import asyncio
import gc
import threading
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import dramatiq
import pytest
from dramatiq.message import get_encoder, set_encoder
from odd_handlers import REGISTRY
from published import published
from samples import SUBMITTED
from trusted import ONE_USER
from waiting import wait_until, wait_until_async

from milepost_contracts.messages.job_events import JobQuarantined, JobSubmitted
from milepost_contracts.messages.trust import Trust
from milepost_processor.adapters.dramatiq.broker import CommandBroker, CommandWorker, connection_url
from milepost_processor.adapters.dramatiq.consumer import Consuming
from milepost_processor.adapters.dramatiq.encoder import EnvelopeEncoder
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.put_off import Eligibility
from milepost_processor.core.secret_params import ParamsOpener
from milepost_rabbit.declare import declare
from milepost_service.sealing import Sealer

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUEUES = ("a", "b", "c")
WITHIN = 20


class Processor:
    """A worker for the queues a, b and c, with a type for each; its jobs run until the test releases them."""

    def __init__(self, url, topology, *, threads):
        self.topology = topology
        self.started, self.done = [], []
        self.released = threading.Event()
        #: The events that took the place of messages.
        self.published = []
        definitions = {queue: replace(REGISTRY.definitions["sync"], type=queue, queue=queue) for queue in QUEUES}
        handlers = Handlers(definitions)
        quarantines = {topology.quarantine_queue_name(queue) for queue in QUEUES}
        consuming = Consuming(
            trust=Trust(ONE_USER, keyring=None),
            timeout=timedelta(minutes=30),
            one_at_a_time=frozenset(quarantines),
            eligibility=Eligibility(handlers, ParamsOpener(handlers, Sealer()), delivery_limit=3),
            publish=self._publish,
        )
        self.broker = CommandBroker(connection_url(url, heartbeat=timedelta(seconds=60)), consuming)
        for queue in QUEUES:
            dramatiq.Actor(
                self._act,
                broker=self.broker,
                actor_name=queue,
                queue_name=topology.work_queue_name(queue),
                priority=0,
                options={},
            )
        for queue in quarantines:
            self.broker.declare_queue(queue)
        self.worker = CommandWorker(self.broker, worker_threads=threads, worker_timeout=50)
        self.worker.start()

    def _act(self, command, delivery):
        self.started.append(command.job.id)
        if command.job.id.startswith("long"):
            self.released.wait(WITHIN)
        self.done.append(command.job.id)

    def _publish(self, event):
        self.published.append(event)
        confirmed = Future()
        confirmed.set_result(None)
        return confirmed

    def holds(self):
        """Return how many messages are not acknowledged."""
        return sum(thread.consumer.held for thread in self.worker.consumers.values())

    async def running(self, number):
        await asyncio.to_thread(wait_until, lambda: len(self.started) == number, within=WITHIN, what="jobs run")

    async def adjusted(self):
        """Wait until nothing is consumed."""

        def paused():
            consumers = [thread.consumer for thread in self.worker.consumers.values()]
            return all(one.is_idle and not one.prefetch for one in consumers)

        await asyncio.to_thread(wait_until, paused, within=WITHIN, what="nothing is consumed")

    def stop(self):
        self.released.set()
        self.worker.stop(timeout=5_000)
        self.broker.close()


@pytest.fixture
async def start(connection, topology, rabbitmq_url):
    """Start a processor; its queues exist."""
    before = get_encoder()
    set_encoder(EnvelopeEncoder(topology))
    await declare(connection, topology.exchanges, (topology.dead_letter_queue, *topology.work_queues(QUEUES)))
    made = []

    def started(*, threads):
        made.append(Processor(rabbitmq_url, topology, threads=threads))
        return made[-1]

    yield started
    for one in made:
        await asyncio.to_thread(one.stop)
    set_encoder(before)
    made.clear()
    gc.collect()  # pika leaves a lost connection to the garbage collector; not during an unrelated test


@pytest.fixture
async def broker(connection, topology):
    """Submits jobs, and tells how many messages are ready."""
    channel = await connection.channel(on_return_raises=True)

    async def submit(queue, *names, kind=JobSubmitted, job_type=None):
        for name in names:
            job = SUBMITTED.model_copy(update={"id": name, "type": job_type or queue, "queue": queue})
            event = kind(job=job.model_copy(update={"quarantined": 100}) if kind is JobQuarantined else job)
            exchange = await channel.get_exchange(topology.jobs.name, ensure=False)
            await exchange.publish(published(event), event.routing_key)

    async def ready(queue):
        declared = await channel.declare_queue(topology.work_queue_name(queue), passive=True)
        return declared.declaration_result.message_count

    async def take(queue):
        """Return a ready message as another processor would get it."""
        return await (await channel.get_queue(topology.work_queue_name(queue), ensure=False)).get(no_ack=True)

    return SimpleNamespace(submit=submit, ready=ready, take=take)


async def test_jobs_stay_in_their_queues_while_all_threads_are_busy(start, broker):
    """Of this queue and of the others: another processor can start them at once."""
    processor = start(threads=2)
    await broker.submit("a", "long1", "long2")
    await processor.running(2)
    await processor.adjusted()
    for queue in QUEUES:
        await broker.submit(queue, f"quick{queue}1", f"quick{queue}2")
    await processor.adjusted()
    assert [2, 2, 2] == [await broker.ready(queue) for queue in QUEUES]
    assert 2 == processor.holds()
    assert not (await broker.take("b")).headers.get("x-delivery-count")


async def test_a_message_that_no_thread_becomes_free_for_is_given_back(start, broker):
    """As a copy, because the broker would count a nack towards the delivery limit."""
    processor = start(threads=1)
    await broker.submit("a", "long1")
    await processor.running(1)
    await processor.adjusted()
    await broker.submit("b", "quick1")
    processor.worker.consumers[processor.topology.work_queue_name("b")].consumer.fetch()
    await asyncio.to_thread(wait_until, lambda: processor.published, within=WITHIN, what="it is given back")
    (event,) = processor.published
    assert ("job.postponed", "quick1", None) == (event.fact, event.job.id, event.job.put_off.since)
    await asyncio.to_thread(wait_until, lambda: processor.holds() == 1, within=WITHIN, what="it is acknowledged")
    assert 0 == await broker.ready("b")


async def test_a_burst_on_several_queues_is_not_hoarded(start, broker):
    """What was taken beyond the threads is given back, and the broker counts no delivery for it."""
    for queue in QUEUES:
        await broker.submit(queue, *(f"long{queue}{number}" for number in range(4)))
    processor = start(threads=4)
    await processor.running(4)
    await asyncio.to_thread(wait_until, lambda: processor.holds() == 4, within=WITHIN, what="nothing more is held")
    kept = sum([await broker.ready(queue) for queue in QUEUES])
    assert 12 == 4 + kept + len(processor.published)
    assert all(event.delay <= timedelta(0) for event in processor.published)
    assert not processor.worker.work_queue.qsize()


async def test_what_arrives_while_a_subscription_ends_is_kept(start, broker):
    """Pika rejects it by itself: the broker would count that against jobs that were never started."""
    processor = start(threads=1)
    await broker.submit("a", "long1")
    await processor.running(1)
    await processor.adjusted()
    await broker.submit("b", *(f"quick{number}" for number in range(60)))
    consumer = processor.worker.consumers[processor.topology.work_queue_name("b")].consumer
    for _ in range(20):
        consumer.subscribe(2)
        consumer.subscribe(0)
    await asyncio.to_thread(
        wait_until, lambda: processor.published and processor.holds() == 1, within=WITHIN, what="some are given back"
    )
    kept = [await broker.take("b") for _ in range(await broker.ready("b"))]
    assert 60 == len(kept) + len(processor.published)
    assert kept, "some were left for another processor"
    assert not any(message.headers.get("x-delivery-count") for message in kept)


async def test_a_free_thread_is_filled_from_the_queues_in_turn(start, broker):
    """A queue with a backlog does not keep the others from starting."""
    await broker.submit("a", *(f"longa{number}" for number in range(2)))
    processor = start(threads=2)
    await processor.running(2)
    await processor.adjusted()
    await broker.submit("a", *(f"quicka{number}" for number in range(20)))
    await broker.submit("b", "quickb")
    await broker.submit("c", "quickc")
    processor.released.set()
    await processor.running(24)
    places = [processor.started.index(name) for name in ("quickb", "quickc")]
    assert max(places) < 12


async def test_quick_jobs_are_prefetched(start, broker):
    """Then a thread need not wait for the broker between two jobs; the prefetch grows to the number of threads."""
    processor = start(threads=4)
    await broker.submit("a", *(f"quick{number}" for number in range(300)))
    await processor.running(300)
    consumer = processor.worker.consumers[processor.topology.work_queue_name("a")].consumer
    assert 4 == consumer.limit
    assert [] == processor.published


async def test_a_quarantined_job_waits_for_a_free_thread_too(start, broker):
    """It is not held by a busy processor, and one at a time is taken."""
    processor = start(threads=3)
    await broker.submit("b", "long1", "long2", "long3", kind=JobQuarantined)
    await processor.running(1)
    await broker.submit("a", "long4", "long5")
    await processor.running(3)
    await processor.adjusted()
    assert ["long1", "long4", "long5"] == processor.started
    assert 3 == processor.holds()


async def test_a_job_of_a_type_that_is_not_served_is_put_off_at_once(start, broker):
    """Even while all threads are busy, once it was delivered; the message is acknowledged."""
    processor = start(threads=2)
    await broker.submit("a", "unknown1", job_type="brand-new")
    await asyncio.to_thread(wait_until, lambda: processor.published, within=WITHIN, what="it is put off")
    (event,) = processor.published
    assert ("job.postponed", "brand-new", "a") == (event.fact, event.job.type, event.job.queue)
    await wait_until_async(lambda: drained(broker, processor), within=WITHIN, what="it is acknowledged")
    assert [] == processor.started


async def drained(broker, processor):
    return not await broker.ready("a") and not processor.holds()


async def test_a_missing_queue_is_reported_until_it_is_consumed(start, connection, topology):
    """Readiness, heartbeats and announcements follow from it."""
    channel = await connection.channel()
    missing = topology.work_queue_name("b")
    await channel.queue_delete(missing)
    processor = start(threads=2)

    def reported():
        problems = processor.broker.not_consumed
        return list(problems) == [missing] and "no queue" in problems[missing]

    await asyncio.to_thread(wait_until, reported, within=WITHIN, what="the missing queue alone is reported")
    await declare(connection, topology.exchanges, topology.work_queues(["b"]))
    await asyncio.to_thread(
        wait_until, lambda: not processor.broker.not_consumed, within=WITHIN, what="all queues are consumed"
    )
