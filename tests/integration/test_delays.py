"""What waits always has somewhere to go, and waits for its own queue alone. With a real broker."""

import asyncio
from datetime import timedelta

import aio_pika
import pytest
from samples import SUBMITTED
from trusted import TRUST_ONE_USER, believed
from waiting import wait_until_async

from milepost_contracts.clock import now
from milepost_contracts.http import webhooks
from milepost_contracts.messages.broker_objects import Binding, Exchange, Queue
from milepost_contracts.messages.former_bindings import former_bindings, former_work_bindings
from milepost_contracts.messages.job_events import (
    JobInterrupted,
    JobQuarantined,
    JobRetrying,
    JobSubmitted,
    JobSucceeded,
    decode_event,
    encode_event,
)
from milepost_rabbit.declare import declare, unbind
from milepost_rabbit.publisher import RabbitPublisher
from milepost_tracker.adapters.rabbit.consumer import Batching, RabbitConsumer
from milepost_tracker.adapters.rabbit.message_router import RabbitMessageRouter
from milepost_tracker.core.unrouted import UnroutedHandler

WINDOW = 32
"""How many messages of a queue RabbitMQ dead-letters at once; it waits for their confirms before the next ones."""


def waiting(number=0, *, queue="default", seconds=0.0):
    """A retry that is due after some seconds."""
    run_at = now() + timedelta(seconds=seconds)
    changes = {"id": f"{queue}{number}", "queue": queue, "run_at": run_at, "attempt": 1}
    return JobRetrying(job=SUBMITTED.model_copy(update=changes))


@pytest.fixture
async def publish(rabbitmq_url, topology, connection):
    """Declare the topology, without a queue `cpu`, and return a function that publishes with a confirm."""
    await declare(connection, topology.exchanges, (*topology.shared_queues, *topology.work_queues(["default"])))
    publisher = RabbitPublisher(rabbitmq_url, name="test")
    publisher.link.start()

    async def send(event, exchange=topology.jobs, key=None, headers=None):
        await publisher.publish(
            exchange,
            key or event.routing_key,
            encode_event(believed(event)),
            correlation_id=event.job.id,
            within=10,
            headers=headers,
        )

    yield send
    await publisher.link.close()


@pytest.fixture
async def repair(rabbitmq_url, topology):
    """Return a function that starts a tracker's handler of messages without a queue."""
    started = []

    async def start():
        publisher = RabbitPublisher(rabbitmq_url, name="test router")
        router = RabbitMessageRouter(publisher, topology)
        consumer = RabbitConsumer(
            rabbitmq_url,
            topology,
            {topology.unrouted_queue: UnroutedHandler(TRUST_ONE_USER, router).handle},
            Batching(size=50, prefetch=200),
        )
        started.extend((consumer.link, publisher.link))
        publisher.link.start()
        await asyncio.wait_for(publisher.link.wait_up(), 10)
        consumer.link.start()
        await asyncio.wait_for(consumer.link.wait_up(), 30)
        return router

    yield start
    for link in started:
        await link.close()


async def take(connection, queue, *, within=20):
    """Return the next message of a queue."""
    channel = await connection.channel()
    opened = await channel.get_queue(queue.name, ensure=False)
    message = await wait_until_async(
        lambda: opened.get(no_ack=True, fail=False), within=within, what=f"{queue.name} has a message"
    )
    await channel.close()
    return message


async def delete(connection, *queues):
    channel = await connection.channel()
    for queue in queues:
        await channel.queue_delete(queue.name)
    await channel.close()


async def depth(connection, queue):
    channel = await connection.channel()
    declared = await channel.declare_queue(queue.name, passive=True)
    await channel.close()
    return declared.declaration_result.message_count


@pytest.mark.parametrize("trouble", ["missing", "full"])
async def test_a_queue_that_takes_nothing_holds_up_no_other_queue(publish, topology, connection, trouble):
    """More of its jobs become due than RabbitMQ dead-letters at once; a job of another queue passes them."""
    work = topology.work("cpu")
    await declare(connection, (), (topology.entry_queue("cpu"),))
    if trouble == "full":
        limited = {**dict(work.arguments), "x-max-length": 1}
        await declare(connection, (), (Queue(name=work.name, bindings=work.bindings, arguments=(*limited.items(),)),))
    await asyncio.gather(*(publish(waiting(number, queue="cpu", seconds=1)) for number in range(WINDOW + 8)))
    await publish(waiting(seconds=2))
    assert waiting().job.id == decode_event((await take(connection, topology.work("default"))).body).job.id


async def test_jobs_wait_for_their_work_queue(publish, topology, connection):
    """Those that are due and those that are submitted: it was deleted, and its processor declares it again."""
    await delete(connection, topology.work("default"))
    await publish(waiting())
    await publish(JobSubmitted(job=SUBMITTED))
    await declare(connection, (), (topology.work("default"),))
    # The broker tries again ten seconds after its first try.
    arrived = {
        decode_event((await take(connection, topology.work("default"), within=40)).body).job.id for _ in range(2)
    }
    assert {waiting().job.id, SUBMITTED.id} == arrived


@pytest.mark.parametrize("kind", [JobInterrupted, JobQuarantined])
async def test_a_job_can_be_put_back_into_a_full_queue(publish, topology, connection, kind):
    """Its processor stops, and a tracker handles all dead letters in turn: neither can wait for room."""
    queue = topology.quarantine("cpu") if kind is JobQuarantined else topology.work("cpu")
    limited = {**dict(queue.arguments), "x-max-length": 1}
    await declare(connection, (), (Queue(name=queue.name, bindings=queue.bindings, arguments=(*limited.items(),)),))
    await declare(connection, (), (topology.entry_queue("cpu"),))
    job = SUBMITTED.model_copy(update={"queue": "cpu"})
    for number in range(8):
        await publish(kind(job=job.model_copy(update={"id": f"job{number}"})))
    await take(connection, queue)


@pytest.mark.parametrize("gone", ["level", "entry", "entry and work"])
async def test_a_command_without_a_queue_is_kept_and_goes_on(publish, repair, topology, connection, gone):
    """A retry was confirmed by the log alone, and its original acknowledged: so it was lost."""
    work, entry = topology.work("default"), topology.entry_queue("default")
    missing = {"level": (topology.delay_queue(0),), "entry": (entry,), "entry and work": (entry, work)}[gone]
    await delete(connection, *missing)
    retry, key = waiting(seconds=1), waiting(seconds=0.5).routing_key
    await publish(retry, key=key)
    await wait_until_async(
        lambda: depth(connection, topology.unrouted_queue), within=10, what="it is kept in the unrouted queue"
    )
    await repair()
    if work in missing:
        await declare(connection, (), (work,))
    message = await take(connection, work)
    assert encode_event(believed(retry)) == message.body
    assert now() >= retry.job.run_at, "it waits for its time"


async def test_a_webhook_without_a_queue_is_kept_and_goes_on(publish, repair, topology, connection):
    """It has the number of its tries still."""
    await delete(connection, topology.webhook_queue)
    end = JobSucceeded(job=SUBMITTED.model_copy(update={"finished_at": now(), "callback_url": "https://example.com/"}))
    key = webhooks.routing_key(end.job, after=timedelta(0))
    await publish(end, topology.webhooks, key, {webhooks.TRIES_HEADER: "3"})
    await repair()
    message = await take(connection, topology.webhook_queue)
    assert (encode_event(believed(end)), "3") == (message.body, message.headers[webhooks.TRIES_HEADER])


async def test_an_event_that_only_another_team_received_is_kept(publish, repair, topology, connection):
    """The tracker's queue and the log are gone: the other team's queue alone would confirm it."""
    channel = await connection.channel()
    other = await channel.declare_queue(exclusive=True)
    await other.bind(topology.jobs.name, "job.succeeded.#")
    await delete(connection, topology.lifecycle, topology.log)
    end = JobSucceeded(job=SUBMITTED.model_copy(update={"finished_at": now()}))
    await publish(end)
    await repair()
    assert encode_event(believed(end)) == (await take(connection, topology.lifecycle)).body


async def test_an_unreadable_message_without_a_queue_is_dead_lettered(publish, repair, topology, connection):
    """It can't be published again, and is kept for people."""
    channel = await connection.channel()
    exchange = await channel.get_exchange(topology.jobs.name, ensure=False)
    await exchange.publish(aio_pika.Message(b"garbage"), "nobody.wants.this")
    await repair()
    assert b"garbage" == (await take(connection, topology.dead_letter_queue)).body


async def test_what_was_deleted_is_declared_again(publish, repair, topology, connection):
    """Queues and bindings, also those of work queues."""
    router = await repair()
    await delete(connection, topology.delay_queue(3), topology.poison_queue, topology.entry_queue("default"))
    work = topology.work("default")
    wire = await (await connection.channel()).get_underlay_channel()
    for binding in work.bindings:
        await wire.queue_unbind(work.name, binding.exchange.name, binding.key)
    await wire.exchange_unbind(destination=topology.internal.name, source=topology.jobs.name, routing_key="#")
    await router.declare(["default", "cpu"])
    for queue in (*topology.shared_queues, *topology.work_queues(["default", "cpu"])):
        await depth(connection, queue)
    await publish(JobSubmitted(job=SUBMITTED))
    assert 1 == await depth(connection, work)


async def test_a_job_arrives_once_after_an_upgrade(publish, topology, connection):
    """The bindings of the former topology are removed; the delay levels of before still lead to the work queue."""
    work, former_level = topology.work("default"), f"{topology.namespace}.delay.22"
    due = Exchange(name=f"{topology.namespace}.due", kind="topic")
    level = Exchange(name=former_level, kind="topic")
    arguments = {"x-queue-type": "quorum", "x-message-ttl": 1, "x-dead-letter-exchange": due.name}
    of_before = Queue(name=former_level, bindings=(Binding(exchange=level, key="#"),), arguments=(*arguments.items(),))
    try:
        await declare(connection, (due, level), (of_before,))
        await declare(
            connection,
            (),
            (Queue(name=work.name, bindings=(Binding(exchange=due, key="#"),), arguments=work.arguments),),
        )
        wire = await (await connection.channel()).get_underlay_channel()
        for one in [*former_bindings(topology), *former_work_bindings(topology, ["default"])]:
            if one.to_queue:
                await wire.queue_bind(one.to, one.exchange, one.key)
            elif one.to == former_level:
                await wire.exchange_bind(destination=one.to, source=one.exchange, routing_key=one.key)
        await unbind(connection, [*former_bindings(topology), *former_work_bindings(topology, ["default"])])
        await publish(waiting(), level)
        assert waiting().job.id == decode_event((await take(connection, work)).body).job.id
        for event in (JobSubmitted(job=SUBMITTED), JobInterrupted(job=SUBMITTED), waiting()):
            await publish(event)
            await take(connection, work)
        assert 0 == await depth(connection, work)
        assert 3 == await depth(connection, topology.lifecycle)
    finally:
        channel = await connection.channel()
        await channel.queue_delete(former_level)
        await channel.exchange_delete(former_level)
        await channel.exchange_delete(due.name)
