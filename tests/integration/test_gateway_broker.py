"""The gateway's broker adapter with a real broker, whose queues are limited as an operator's policy limits them."""

import asyncio

import pytest
from samples import SUBMITTED

from milepost_contracts.messages.broker_objects import Queue
from milepost_contracts.messages.job_events import JobSubmitted
from milepost_gateway.adapters.broker import RabbitBroker
from milepost_gateway.errors import NotAccepted, OutcomeUnknown
from milepost_rabbit.declare import declare


@pytest.fixture
async def broker(rabbitmq_url, topology, connection):
    await declare(connection, topology.exchanges, (*topology.shared_queues, topology.work("default")))
    work = topology.work("cpu")
    limited = {**dict(work.arguments), "x-max-length": 10}
    await declare(connection, (), (Queue(name=work.name, bindings=work.bindings, arguments=(*limited.items(),)),))
    made = RabbitBroker(rabbitmq_url, topology)
    made.link.start()
    await asyncio.wait_for(made.link.wait_up(), 10)
    yield made
    await made.link.close()


def job(number, queue="cpu"):
    return JobSubmitted(job=SUBMITTED.model_copy(update={"id": f"job{number}", "queue": queue}))


async def fill(broker):
    """Submit more jobs than the queue `cpu` takes."""
    for number in range(100):
        await broker.submit(job(number))


async def test_a_full_queue_is_refused_before_the_publish_until_it_is_shorter(broker, topology, connection):
    """Only the job that showed that it is full has an unknown outcome: the tracker and the log may have stored it."""
    with pytest.raises(OutcomeUnknown) as unknown:
        await fill(broker)
    assert unknown.value.job_id.startswith("job")
    for number in range(5):
        with pytest.raises(NotAccepted, match=r"work\.cpu takes no more messages now; \d+ wait"):
            await broker.submit(job(100 + number))
    channel = await connection.channel()
    queue = await channel.get_queue(topology.work("cpu").name, ensure=False)
    for _ in range(5):
        await queue.get(no_ack=True)
    await broker.submit(job(200))


async def test_a_full_queue_refuses_no_job_of_another_queue(broker):
    """One queue's trouble is its own."""
    with pytest.raises(OutcomeUnknown):
        await fill(broker)
    await broker.submit(job(200, queue="default"))


async def test_a_full_queue_of_another_team_refuses_nothing(broker, topology, connection):
    """Everything is stored by Milepost's own queues, so a job is accepted."""
    channel = await connection.channel()
    other = await channel.declare_queue(exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await other.bind(topology.jobs.name, "job.submitted.#")
    for number in range(5):
        await broker.submit(job(number, queue="default"))
