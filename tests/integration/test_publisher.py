"""The confirming publisher with a real broker."""

import asyncio
from contextlib import suppress

import aio_pika
import pytest
from broker_control import rabbitmqctl
from waiting import wait_until_async
from yarl import URL

from milepost_contracts.messages.broker_objects import Queue
from milepost_rabbit import metrics
from milepost_rabbit.blocking import is_blocked
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_rabbit.declare import declare, missing
from milepost_rabbit.errors import NotAccepted, OutcomeUnknown, RabbitError, Refused, TopologyMismatch
from milepost_rabbit.link import Link
from milepost_rabbit.publisher import RabbitPublisher


@pytest.fixture
async def publisher(rabbitmq_url, topology, connection):
    await declare(connection, topology.exchanges, (*topology.shared_queues, topology.work("default")))
    made = RabbitPublisher(rabbitmq_url, name="test")
    made.link.start()
    await asyncio.wait_for(made.link.wait_up(), 10)
    yield made
    await made.link.close()


async def one_from(connection, queue):
    """Consume one message; a stream is read from its start."""
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    arrived = asyncio.Queue()
    consumed = await channel.get_queue(queue.name, ensure=False)
    await consumed.consume(arrived.put, arguments={"x-stream-offset": "first"} if "log" in queue.name else None)
    return (await asyncio.wait_for(arrived.get(), 10)).body


async def test_a_confirmed_message_is_in_every_bound_queue(publisher, topology, connection):
    """Law 1: one publish, three durable copies."""
    await publisher.publish(topology.jobs, "job.submitted.default.count", b"{}", correlation_id="1", within=5)
    for queue in topology.accepting("default"):
        assert b"{}" == await one_from(connection, queue), queue.name


async def test_a_message_has_its_amqp_properties(publisher, topology, connection):
    """Persistent, a CloudEvent, the job's id, a user id that the broker has validated, and a message id of its own."""
    for _ in range(2):
        await publisher.publish(topology.jobs, "job.submitted.default.count", b"{}", correlation_id="job", within=5)
    channel = await connection.channel()
    queue = await channel.get_queue(topology.work("default").name)
    one, other = [await queue.get(no_ack=True), await queue.get(no_ack=True)]
    assert ("application/cloudevents+json", aio_pika.DeliveryMode.PERSISTENT, "job", "milepost-operator") == (
        one.content_type,
        one.delivery_mode,
        one.correlation_id,
        one.user_id,
    )
    assert one.message_id != other.message_id


async def test_events_of_one_job_arrive_in_the_order_of_publishing(publisher, topology, connection):
    """A processor may publish a job's start and its end in quick succession."""
    key, bodies = "job.submitted.default.count", [b"%d" % number for number in range(100)]
    await publisher.link.wait_up()
    await asyncio.gather(
        *(publisher.publish(topology.jobs, key, body, correlation_id="job", within=5) for body in bodies)
    )
    queue = await (await connection.channel()).get_queue(topology.work("default").name)
    assert bodies == [(await queue.get(no_ack=True)).body for _ in bodies]


async def test_an_unroutable_message_is_not_accepted(publisher, topology):
    """By default, aio-pika returns normally for it."""
    with pytest.raises(NotAccepted, match="no queue"):
        await publisher.publish(topology.webhooks, "nobody.wants.this", b"{}", correlation_id="1", within=5)


async def test_concurrent_publishes_get_their_own_outcomes(publisher, topology):
    """Every second message is unroutable, and all are in flight together."""

    async def outcome(n):
        exchange = topology.jobs if n % 2 else topology.webhooks
        try:
            await publisher.publish(
                exchange, "job.submitted.default.count", b"{}", correlation_id="the same", within=10
            )
        except NotAccepted:
            return "returned"
        return "confirmed"

    assert await asyncio.gather(*(outcome(n) for n in range(200))) == ["returned", "confirmed"] * 100


async def test_a_message_that_a_full_queue_refuses_has_an_unknown_outcome(publisher, topology, connection, namespace):
    """The broker's nack means that one queue refused the message: the tracker's has stored it."""
    full = Queue(
        name=f"{namespace}.work.cpu",
        bindings=topology.work("cpu").bindings,
        arguments=(("x-queue-type", "quorum"), ("x-max-length", 1), ("x-overflow", "reject-publish")),
    )
    await declare(connection, (), (full,))

    async def fill():
        for _ in range(20):
            await publisher.publish(topology.jobs, "job.submitted.cpu.crunch", b"{}", correlation_id="1", within=5)

    with pytest.raises(Refused, match="a queue refused"):
        await fill()
    stored = await connection.channel()
    lifecycle = await stored.declare_queue(topology.lifecycle.name, passive=True)
    work = await stored.declare_queue(full.name, passive=True)
    assert lifecycle.declaration_result.message_count > work.declaration_result.message_count


@pytest.mark.parametrize("exchange", ["jobs", "workers"])
async def test_a_full_queue_of_another_team_refuses_nothing(publisher, topology, connection, exchange):
    """Else one forgotten queue would stop every processor; it is counted, and the other teams' events go on."""
    public = getattr(topology, exchange)
    key = {"jobs": "job.submitted.default.count", "workers": "processor.heartbeat"}[exchange]
    queue = {"jobs": topology.work("default"), "workers": topology.worker_queue}[exchange]
    channel = await connection.channel()
    full = await channel.declare_queue(exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await full.bind(public.name, "#")
    other = await channel.declare_queue(exclusive=True)
    await other.bind(public.name, "#")
    counter = metrics.refused_by_others.labels(exchange=public.name)
    bodies = [b"%d" % number for number in range(5)]
    for body in bodies:
        await publisher.publish(public, key, body, correlation_id="1", within=5)
    assert len(bodies) - 1 == counter._value.get()
    consumed = await channel.get_queue(queue.name, ensure=False)
    arrived = [(await consumed.get(no_ack=True)).body for _ in range(2 * len(bodies) - 1)]
    assert set(bodies) == set(arrived)
    assert bodies == [(await other.get(no_ack=True)).body for _ in bodies], "each event once"


async def test_a_queue_with_other_arguments_is_a_topology_mismatch(topology, connection):
    """The error contains the broker's own description of the difference."""
    await declare(connection, topology.exchanges, (topology.work("default"),))
    other = Queue(name=topology.work("default").name, bindings=(), arguments=(("x-queue-type", "classic"),))
    with pytest.raises(TopologyMismatch, match="exists with other arguments"):
        await declare(connection, (), (other,))


async def test_missing_queues_are_found_without_declaring_them(topology, connection):
    """The gateway checks for queues and declares none."""
    assert topology.work("default").name == await missing(connection, (topology.work("default"),))
    await declare(connection, topology.exchanges, (topology.work("default"),))
    assert await missing(connection, (topology.work("default"),)) is None


async def test_a_publisher_recovers_from_a_lost_connection(publisher, topology):
    """It reconnects without a restart of the process."""
    await publisher.link.wait_up()
    await publisher.link.connection.close()
    await publisher.publish(topology.jobs, "job.submitted.default.count", b"{}", correlation_id="1", within=10)


async def test_a_publisher_recovers_when_the_broker_closes_its_channel(publisher, topology, connection):
    """Publishing to a deleted exchange closes the channel; once the exchange exists again, publishing works."""
    channel = await connection.channel()
    await channel.exchange_delete(topology.workers.name)
    with pytest.raises(RabbitError):
        await publisher.publish(topology.workers, "processor.heartbeat", b"{}", correlation_id="1", within=2)
    await declare(connection, topology.exchanges, topology.shared_queues)

    async def published():
        try:
            await publisher.publish(topology.workers, "processor.heartbeat", b"{}", correlation_id="1", within=2)
        except RabbitError:
            return False
        return True

    assert all([await wait_until_async(published, within=10, what="it is published") for _ in range(8)])


class Wire:
    """A TCP proxy that can reset its connections, without an AMQP close, or stop forwarding."""

    def __init__(self, port):
        self._target = port
        self._writers = []
        self._silent = []
        self._accepting = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await cancel_and_wait(self._accepting)
        self.cut()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        for _ in range(5):  # until both ends have seen the reset: no socket outlives the test
            await asyncio.sleep(0)

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()

    def silence(self):
        """Stop forwarding on all present connections."""
        for silent in self._silent:
            silent.set()

    async def _accept(self, reader, writer):
        self._accepting.add(asyncio.current_task())
        self._writers.append(writer)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.append(far_writer)
        silent = asyncio.Event()
        self._silent.append(silent)
        await asyncio.gather(self._copy(reader, far_writer, silent), self._copy(far_reader, writer, silent))

    @staticmethod
    async def _copy(reader, writer, silent):
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                if not silent.is_set():
                    writer.write(chunk)


async def test_a_connection_whose_broker_does_not_answer_is_replaced(rabbitmq_url, topology, connection, monkeypatch):
    """Its node may be frozen: heartbeats would notice it only later, and another node may accept the connection."""
    monkeypatch.setattr("milepost_rabbit.publisher.REPLACE_AFTER", 0.0)
    await declare(connection, topology.exchanges, (*topology.shared_queues, topology.work("default")))
    url = URL(rabbitmq_url)

    async def publish(within):
        key = "job.submitted.default.count"
        await publisher.publish(topology.jobs, key, b"{}", correlation_id="1", within=within)

    async with Wire(url.port) as wire:
        publisher = RabbitPublisher(str(url.with_port(wire.port)), name="test")
        publisher.link.start()
        await publish(within=10)
        wire.silence()
        with pytest.raises(OutcomeUnknown):
            await publish(within=0.5)
        await publish(within=20)
        await publisher.link.close()


@pytest.mark.parametrize("ending", ["dropped", "reset"])
async def test_a_publish_that_the_end_of_its_connection_cancels_is_unknown(rabbitmq_url, topology, connection, ending):
    """The library cancels what waits for a confirm, and nobody cancelled our task: the message may be stored or not."""
    await declare(connection, topology.exchanges, (*topology.shared_queues, topology.work("default")))
    url = URL(rabbitmq_url)
    async with Wire(url.port) as wire:
        publisher = RabbitPublisher(str(url.with_port(wire.port)), name="test")
        publisher.link.start()
        await asyncio.wait_for(publisher.link.wait_up(), 10)
        wire.silence()
        key = "job.submitted.default.count"
        waiting = asyncio.create_task(publisher.publish(topology.jobs, key, b"{}", correlation_id="1", within=60))
        await wait_until_async(lambda: _unconfirmed(publisher), within=10, what="the message is on its way")
        if ending == "dropped":
            publisher.link.drop(publisher.link.connection)
        else:
            wire.cut()
        with pytest.raises(OutcomeUnknown):
            await waiting
        await publisher.link.close()


async def _unconfirmed(publisher):
    return any(one.wire.confirmations for one in publisher._channels)


async def test_a_blocked_connection_is_kept(publisher, topology, stack, monkeypatch):
    """Another connection would be blocked as well. The outcome of a publish is not accepted, rather than unknown."""
    monkeypatch.setattr("milepost_rabbit.publisher.REPLACE_AFTER", 0.0)
    before = publisher.link.connection

    async def publish(within):
        key = "job.submitted.default.count"
        await publisher.publish(topology.jobs, key, b"{}", correlation_id="1", within=within)

    rabbitmqctl(stack, "set_vm_memory_high_watermark", "0")
    first = asyncio.create_task(publish(within=60))  # the broker blocks a connection only once it publishes
    try:
        await wait_until_async(lambda: is_blocked(before), within=10, what="the connection is blocked")
        with pytest.raises(NotAccepted, match="blocked the connection"):
            await publish(within=1)
        assert publisher.link.connection is before
    finally:
        rabbitmqctl(stack, "set_vm_memory_high_watermark", "0.4")
    await first


async def test_a_reset_connection_is_detected_and_replaced(rabbitmq_url):
    """aio-pika's `closed()` reports only connections that this side closed."""
    opened = []

    async def note(connection):
        opened.append(connection)

    url = URL(rabbitmq_url)
    async with Wire(url.port) as wire:
        link = Link(str(url.with_port(wire.port)), name="test", on_connect=note)
        link.start()
        await asyncio.wait_for(link.wait_up(), 10)
        wire.cut()
        await wait_until_async(lambda: _has_two(opened), within=10, what="there is a second connection")
        await asyncio.wait_for(link.wait_up(), 10)
        assert link.connection is opened[1]
        await link.close()


async def _has_two(opened):
    return len(opened) == 2
