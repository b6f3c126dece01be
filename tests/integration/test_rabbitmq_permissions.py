"""What each user may do at RabbitMQ, one operation a test."""

import asyncio

import aio_pika
import aiormq.exceptions
import pytest

REFUSED = (aiormq.exceptions.ChannelAccessRefused, aio_pika.exceptions.ChannelClosed)

# RabbitMQ. Names are without the namespace; those that begin with '/' are complete.


async def declare_queue(channel, name):
    """Declare a queue."""
    await channel.declare_queue(name, durable=True)


async def look(channel, name):
    """Ask for the length of a queue."""
    await channel.declare_queue(name, passive=True)


async def consume(channel, name):
    """Consume a queue."""
    queue = await channel.get_queue(name, ensure=False)
    await queue.cancel(await queue.consume(asyncio.Queue().put))


async def get(channel, name):
    """Get a message of a queue."""
    await (await channel.get_queue(name, ensure=False)).get(fail=False)


async def purge(channel, name):
    """Purge a queue."""
    await (await channel.get_queue(name, ensure=False)).purge()


async def delete(channel, name):
    """Delete a queue."""
    await channel.queue_delete(name, if_unused=False)


async def publish(channel, exchange, key):
    """Publish to an exchange."""
    target = channel.default_exchange if exchange == "/" else await channel.get_exchange(exchange, ensure=False)
    await target.publish(aio_pika.Message(b"x"), key, mandatory=False)


async def bind(channel, exchange, key):
    """Bind a queue of one's own, which the broker names, to an exchange."""
    await (await channel.declare_queue("", exclusive=True)).bind(exchange, key)


async def bind_own(channel, name, exchange, key):
    """Declare a queue with a name of one's own, and bind it to an exchange."""
    await (await channel.declare_queue(name, durable=True)).bind(exchange, key)


async def get_own(channel, name):
    """Declare a queue with a name of one's own, and get a message of it."""
    await (await channel.declare_queue(name, durable=True)).get(fail=False)


async def delete_own(channel, name):
    """Declare a queue with a name of one's own, and delete it."""
    await (await channel.declare_queue(name, durable=True)).delete(if_unused=False, if_empty=False)


async def bind_queue(channel, name, exchange, key):
    """Bind a queue to an exchange."""
    await (await channel.get_queue(name, ensure=False)).bind(exchange, key)


async def unbind(channel, name, exchange, key):
    """Remove a binding of a queue."""
    await (await channel.get_queue(name, ensure=False)).unbind(exchange, key)


async def declare_exchange(channel, name):
    """Declare an exchange."""
    await channel.declare_exchange(name, "topic", durable=False)


async def delete_exchange(channel, name):
    """Delete an exchange."""
    await channel.exchange_delete(name)


async def bind_exchange(channel, to, exchange):
    """Bind an exchange to another one."""
    await (await channel.get_exchange(to, ensure=False)).bind(exchange, "#")


BITS = ".0" * 22 + ".1"
REFUSED_AT_RABBITMQ = [
    # A processor: what a stolen one did before.
    ("processor", purge, "level.00"),
    ("processor", delete, "level.00"),
    ("processor", delete, "dead-letters"),
    ("processor", purge, "dead-letters"),
    ("processor", consume, "dead-letters"),
    ("processor", consume, "poison"),
    ("processor", get, "log.jobs"),
    ("processor", get, "tracker.lifecycle"),
    ("processor", get, "tracker.webhooks"),
    ("processor", get, "unrouted"),
    ("processor", get, "entry.cpu"),
    ("processor", delete, "work.cpu"),
    ("processor", declare_queue, "work.cpu"),
    ("processor", declare_queue, "work.other"),
    ("processor", declare_queue, "quarantine.cpu"),
    ("processor", declare_queue, "/spy"),
    ("processor", declare_queue, "control.spy"),
    ("processor", declare_exchange, "control.mine"),
    ("processor", declare_exchange, "/amq.gen-mine"),
    ("processor", delete_exchange, "jobs"),
    ("processor", bind, "jobs", "job.#"),
    ("processor", bind, "jobs", "job.succeeded.cpu.x"),
    ("processor", bind, "internal", "#"),
    ("processor", bind, "workers", "#"),
    ("processor", bind, "dead-letters", ""),
    ("processor", bind_queue, "work.cpu", "jobs", "job.#"),
    ("processor", bind_queue, "work.cpu", "control", ""),
    ("processor", unbind, "work.cpu", "submitted", "job.submitted.cpu.*"),
    ("processor", bind_exchange, "jobs", "workers"),
    ("processor", bind_exchange, "control", "jobs"),
    ("processor", publish, "/", "work.cpu"),
    ("processor", publish, "jobs", "job.submitted.cpu.x"),
    ("processor", publish, "jobs", "job.scheduled.cpu.x" + BITS),
    ("processor", publish, "jobs", "job.quarantined.cpu.x"),
    ("processor", publish, "jobs", "job.cancel-requested.cpu.x"),
    ("processor", publish, "jobs", "job.deleted.cpu.x"),
    ("processor", publish, "jobs", "job.succeeded"),
    ("processor", publish, "jobs", "job.succeeded.cpu.x.work"),
    ("processor", publish, "internal", "job.submitted.cpu.x"),
    ("processor", publish, "workers", "job.succeeded.cpu.x"),
    ("processor", publish, "control", ""),
    ("processor", publish, "commands", "job.submitted.cpu.x"),
    ("processor", publish, "submitted", "job.submitted.cpu.x"),
    ("processor", publish, "entry", "job.submitted.cpu.x"),
    ("processor", publish, "webhooks", "webhook.send.cpu.x"),
    ("processor", publish, "republished", ""),
    ("processor", publish, "level.00", "job.retrying.cpu.x" + BITS),
    ("processor", publish, "dead-letters", ""),
    ("processor", publish, "poison", ""),
    # A processor for some queues.
    ("limited", consume, "work.cpu"),
    ("limited", purge, "work.cpu"),
    ("limited", get, "quarantine.cpu"),
    ("limited", publish, "jobs", "job.succeeded.cpu.x"),
    ("limited", publish, "jobs", "job.started.cpu.gpu"),
    ("limited", publish, "jobs", "job.retrying.cpu.x" + BITS),
    ("limited", publish, "jobs", "job.succeeded.gpu-2.x"),
    ("limited", publish, "internal", "job.succeeded.cpu.x"),
    # A gateway.
    ("gateway", consume, "work.cpu"),
    ("gateway", get, "work.cpu"),
    ("gateway", purge, "work.cpu"),
    ("gateway", delete, "work.cpu"),
    ("gateway", declare_queue, "work.cpu"),
    ("gateway", declare_queue, "/spy"),
    ("gateway", bind, "jobs", "job.#"),
    ("gateway", bind_queue, "work.cpu", "jobs", "job.#"),
    ("gateway", bind_queue, "log.jobs", "jobs", "job.progressed.#"),
    ("gateway", unbind, "work.cpu", "submitted", "job.submitted.cpu.*"),
    ("gateway", get, "log.jobs"),
    ("gateway", get, "tracker.lifecycle"),
    ("gateway", get, "dead-letters"),
    ("gateway", purge, "level.05"),
    ("gateway", publish, "/", "work.cpu"),
    ("gateway", publish, "jobs", "job.succeeded.cpu.x"),
    ("gateway", publish, "jobs", "job.started.cpu.x"),
    ("gateway", publish, "jobs", "job.failed.cpu.x"),
    ("gateway", publish, "jobs", "job.interrupted.cpu.x"),
    ("gateway", publish, "internal", "job.succeeded.cpu.x"),
    ("gateway", publish, "workers", "processor.heartbeat"),
    ("gateway", publish, "control", ""),
    ("gateway", publish, "commands", "job.submitted.cpu.x"),
    ("gateway", publish, "entry", "job.submitted.cpu.x"),
    ("gateway", publish, "level.22", "job.scheduled.cpu.x" + BITS),
    ("gateway", publish, "republished", ""),
    # A tracker has nothing outside its namespace.
    ("tracker", declare_queue, "/spy"),
    ("tracker", publish, "/", "work.cpu"),
    ("tracker", declare_exchange, "/milepost"),
    # Another team.
    ("team", bind_own, "/TEAM.events", "jobs", "#"),
    ("team", bind_own, "/TEAM.events", "jobs", "job.#"),
    ("team", bind_own, "/TEAM.events", "workers", "#"),
    ("team", bind_own, "/TEAM.events", "internal", "job.succeeded.#"),
    ("team", bind_exchange, "jobs", "workers"),
    ("team", consume, "work.cpu"),
    ("team", purge, "tracker.lifecycle"),
    ("team", get, "log.jobs"),
    ("team", delete, "dead-letters"),
    ("team", publish, "jobs", "job.succeeded.cpu.x"),
    ("team", publish, "/", "work.cpu"),
    ("team", declare_queue, "work.cpu"),
    ("team", declare_queue, "/spy"),
]
ALLOWED_AT_RABBITMQ = [
    ("processor", look, "work.cpu"),
    ("processor", look, "quarantine.cpu"),
    ("processor", consume, "work.cpu"),
    ("processor", get, "quarantine.gpu"),
    ("processor", bind, "control", ""),
    ("processor", publish, "jobs", "job.started.cpu.x"),
    ("processor", publish, "jobs", "job.succeeded.cpu.x"),
    ("processor", publish, "jobs", "job.retrying.cpu.x" + BITS),
    ("processor", publish, "jobs", "job.postponed-in-quarantine.cpu.x" + BITS),
    ("processor", publish, "internal", "job.failed.cpu.x"),
    ("processor", publish, "workers", "processor.announced"),
    ("limited", consume, "work.gpu"),
    ("limited", publish, "jobs", "job.succeeded.gpu.x"),
    ("limited", publish, "jobs", "job.interrupted.images.x"),
    ("limited", publish, "workers", "processor.heartbeat"),
    ("gateway", look, "work.cpu"),
    ("gateway", look, "tracker.lifecycle"),
    ("gateway", look, "log.jobs"),
    ("gateway", look, "level.22"),
    ("gateway", look, "tracker.webhooks"),
    ("gateway", publish, "jobs", "job.submitted.cpu.x"),
    ("gateway", publish, "jobs", "job.scheduled.cpu.x" + BITS),
    ("gateway", publish, "jobs", "job.cancel-requested.cpu.x"),
    ("gateway", publish, "internal", "job.deleted.cpu.x"),
    ("gateway", publish, "webhooks", "webhook.send.cpu.x" + BITS),
    ("tracker", get, "dead-letters"),
    ("tracker", publish, "jobs", "job.failed.cpu.x"),
    ("tracker", publish, "republished", ""),
    ("tracker", look, "poison"),
    ("team", bind_own, "/TEAM.events", "jobs", "job.succeeded.#"),
    ("team", get_own, "/TEAM.events"),
    ("team", delete_own, "/TEAM.events"),
]


KEYED = {bind, bind_own, bind_queue, unbind, publish}
"""Operations whose last word is a routing key."""


def sentence(line):
    role, act, *words = line
    return " ".join([role, act.__name__, *(str(word) for word in words)])[:80]


async def attempt(deployment, line):
    """Do an operation as a user; raise if it is refused."""
    role, act, *words = line

    def named(word):
        if not word.startswith("/"):
            return f"{deployment.namespace}.{word}"
        return word.removeprefix("/").replace("TEAM", deployment.billing)

    names = words[:-1] if act in KEYED else words
    async with await deployment.connect(role) as connection:
        channel = await connection.channel()
        async with asyncio.timeout(20):
            await act(channel, *map(named, names), *words[len(names) :])


@pytest.mark.parametrize("line", REFUSED_AT_RABBITMQ, ids=sentence)
async def test_rabbitmq_refuses(deployment, line):
    """Each of these is refused, by the permissions alone."""
    with pytest.raises(REFUSED, match="ACCESS_REFUSED"):
        await attempt(deployment, line)


@pytest.mark.parametrize("line", ALLOWED_AT_RABBITMQ, ids=sentence)
async def test_rabbitmq_allows(deployment, line):
    """What a service does is allowed; the other tests run whole deployments with these permissions."""
    await attempt(deployment, line)


@pytest.mark.parametrize("role", ["gateway", "tracker", "processor", "limited", "team"])
async def test_a_message_of_another_user_is_refused(deployment, role):
    """So the user of a message is who has published it (law 11)."""
    async with await deployment.connect(role) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(f"{deployment.namespace}.jobs", ensure=False)
        with pytest.raises((aiormq.exceptions.ChannelPreconditionFailed, *REFUSED)):
            await exchange.publish(aio_pika.Message(b"x", user_id="guest"), "job.submitted.cpu.x", mandatory=False)


async def test_rabbitmq_has_no_user_guest(stack):
    """Neither the default user nor its password."""
    server = stack.state.rabbitmq_url.rpartition("@")[2]
    with pytest.raises(aiormq.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@{server}")
