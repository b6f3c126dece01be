"""The confirmed publisher with a real broker."""

import asyncio
from contextlib import suppress

import aio_pika
import pytest
from broker_control import rabbitmqctl
from waiting import wait_until_async
from yarl import URL

from milepost_contracts.topology import Queue
from milepost_rabbit import publisher as module
from milepost_rabbit.cancelling import end
from milepost_rabbit.declare import declare, missing
from milepost_rabbit.errors import NotAccepted, OutcomeUnknown, RabbitError, TopologyMismatch
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
    """Consume one message; a stream is read from its beginning."""
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    arrived = asyncio.Queue()
    consumed = await channel.get_queue(queue.name, ensure=False)
    await consumed.consume(arrived.put, arguments={"x-stream-offset": "first"} if "log" in queue.name else None)
    return (await asyncio.wait_for(arrived.get(), 10)).body


async def test_a_confirmed_message_lies_in_every_queue_it_belongs_to(publisher, topology, connection):
    """Law 1: one publish, three durable copies."""
    await publisher.publish(topology.jobs, "job.submitted.default.count", b"{}", correlation_id="1", within=5)
    for queue in topology.accepting("default"):
        assert b"{}" == await one_from(connection, queue), queue.name


async def test_a_message_says_what_it_is_and_who_sent_it(publisher, topology, connection):
    """Persistent, a CloudEvent, about a job, from a user that the broker has checked, with a message id of its own."""
    for _ in range(2):
        await publisher.publish(topology.jobs, "job.submitted.default.count", b"{}", correlation_id="job", within=5)
    channel = await connection.channel()
    queue = await channel.get_queue(topology.work("default").name)
    one, other = [await queue.get(no_ack=True), await queue.get(no_ack=True)]
    assert ("application/cloudevents+json", aio_pika.DeliveryMode.PERSISTENT, "job", "guest") == (
        one.content_type,
        one.delivery_mode,
        one.correlation_id,
        one.user_id,
    )
    assert one.message_id != other.message_id


async def test_what_is_said_of_one_job_arrives_in_its_order(publisher, topology, connection):
    """A processor says that a job has begun, and at once how it ended: whoever follows it is told both."""
    key, bodies = "job.submitted.default.count", [b"%d" % number for number in range(100)]
    await publisher.link.wait_up()
    await asyncio.gather(
        *(publisher.publish(topology.jobs, key, body, correlation_id="job", within=5) for body in bodies)
    )
    queue = await (await connection.channel()).get_queue(topology.work("default").name)
    assert bodies == [(await queue.get(no_ack=True)).body for _ in bodies]


async def test_a_message_that_no_queue_takes_is_not_accepted(publisher, topology):
    """aio-pika returns normally unless it is told otherwise."""
    with pytest.raises(NotAccepted, match="no queue"):
        await publisher.publish(topology.jobs, "nobody.wants.this", b"{}", correlation_id="1", within=5)
    with pytest.raises(NotAccepted, match="no queue"):
        await publisher.publish(topology.fleet, "nobody", b"{}", correlation_id="1", within=5)


async def test_outcomes_of_many_publishes_at_once_are_not_swapped(publisher, topology):
    """Every second one is unroutable, all are in flight together: each learns its own fate."""

    async def outcome(n):
        key = "job.submitted.default.count" if n % 2 else "nobody.wants.this"
        try:
            await publisher.publish(topology.jobs, key, b"{}", correlation_id="the same", within=10)
        except NotAccepted:
            return "returned"
        return "confirmed"

    assert await asyncio.gather(*(outcome(n) for n in range(200))) == ["returned", "confirmed"] * 100


async def test_a_full_queue_refuses(publisher, topology, connection, namespace):
    """A nack is an answer: not accepted."""
    full = Queue(
        name=f"{namespace}.work.cpu",
        bindings=topology.work("cpu").bindings,
        arguments=(("x-queue-type", "quorum"), ("x-max-length", 1), ("x-overflow", "reject-publish")),
    )
    await declare(connection, (), (full,))

    async def fill():
        for _ in range(20):
            await publisher.publish(topology.jobs, "job.submitted.cpu.crunch", b"{}", correlation_id="1", within=5)

    with pytest.raises(NotAccepted, match="refused"):
        await fill()


async def test_a_queue_that_exists_otherwise_is_told(topology, connection):
    """What differs is in the broker's own words."""
    await declare(connection, topology.exchanges, (topology.work("default"),))
    other = Queue(name=topology.work("default").name, bindings=(), arguments=(("x-queue-type", "classic"),))
    with pytest.raises(TopologyMismatch, match="exists with other arguments"):
        await declare(connection, (), (other,))


async def test_missing_queues_are_found_without_making_them(topology, connection):
    """The gateway looks, and declares nothing."""
    assert topology.work("default").name == await missing(connection, (topology.work("default"),))
    await declare(connection, topology.exchanges, (topology.work("default"),))
    assert await missing(connection, (topology.work("default"),)) is None


async def test_a_publisher_recovers_from_a_lost_connection(publisher, topology):
    """Without a restart."""
    await publisher.link.wait_up()
    await publisher.link.connection.close()
    await publisher.publish(topology.jobs, "job.submitted.default.count", b"{}", correlation_id="1", within=10)


async def test_a_publisher_recovers_when_the_broker_closes_its_channel(publisher, topology, connection):
    """An exchange that was deleted closes the channel that publishes to it; once it is there again, so are we."""
    channel = await connection.channel()
    await channel.exchange_delete(topology.fleet.name)
    with pytest.raises(RabbitError):
        await publisher.publish(topology.fleet, "processor.beat", b"{}", correlation_id="1", within=2)
    await declare(connection, topology.exchanges, topology.shared_queues)

    async def published():
        try:
            await publisher.publish(topology.fleet, "processor.beat", b"{}", correlation_id="1", within=2)
        except RabbitError:
            return False
        return True

    assert all([await wait_until_async(published, within=10, what="it is published") for _ in range(8)])


class Wire:
    """A TCP proxy that can be cut: both ends see a reset, and nobody says goodbye. Or it can fall silent."""

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
        await end(self._accepting)
        self.cut()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        for _ in range(5):  # until whoever was connected has seen the reset too: no socket outlives the test
            await asyncio.sleep(0)

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()

    def silence(self):
        """Pass nothing on any more over the connections that there are."""
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


async def test_a_broker_that_falls_silent_is_given_up(rabbitmq_url, topology, connection, monkeypatch):
    """Its node may be frozen: heartbeats would notice that after three more failures, and another node may take us."""
    monkeypatch.setattr("milepost_rabbit.publisher.DOUBTED_AFTER", 0.0)
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


async def test_a_broker_that_blocks_us_is_not_given_up(publisher, topology, stack, monkeypatch):
    """Another connection would be blocked as well; and what it can't take is not accepted, rather than unknown."""
    monkeypatch.setattr("milepost_rabbit.publisher.DOUBTED_AFTER", 0.0)
    before = publisher.link.connection

    async def publish(within):
        key = "job.submitted.default.count"
        await publisher.publish(topology.jobs, key, b"{}", correlation_id="1", within=within)

    rabbitmqctl(stack, "set_vm_memory_high_watermark", "0")
    first = asyncio.create_task(publish(within=60))  # it is how the broker finds out that we publish
    try:
        await wait_until_async(lambda: module._is_blocked(before), within=10, what="we are blocked")
        with pytest.raises(NotAccepted, match="blocked us"):
            await publish(within=1)
        assert publisher.link.connection is before
    finally:
        rabbitmqctl(stack, "set_vm_memory_high_watermark", "0.4")
    await first


async def test_a_connection_that_is_cut_is_noticed_and_made_again(rabbitmq_url):
    """aio-pika's own `closed()` tells of our own closing only."""
    opened = []

    async def note(connection):
        opened.append(connection)

    url = URL(rabbitmq_url)
    async with Wire(url.port) as wire:
        link = Link(str(url.with_port(wire.port)), name="test", on_connect=note)
        link.start()
        await asyncio.wait_for(link.wait_up(), 10)
        wire.cut()
        await wait_until_async(lambda: _two(opened), within=10, what="there is a second connection")
        await asyncio.wait_for(link.wait_up(), 10)
        assert link.connection is opened[1]
        await link.close()


async def _two(opened):
    return len(opened) == 2
