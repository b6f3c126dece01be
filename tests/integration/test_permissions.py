"""What each user may do at RabbitMQ and in Redis, one operation a test."""

import asyncio
from uuid import uuid4

import aio_pika
import aiormq.exceptions
import pytest
from broker_control import rabbitmqctl
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from milepost_contracts.messages.topology import Topology
from milepost_contracts.permissions.users import deployment_users
from milepost_rabbit.declare import declare
from milepost_stack.access import Access

REFUSED = (aiormq.exceptions.ChannelAccessRefused, aio_pika.exceptions.ChannelClosed)


class Deployment:
    """A namespace with its users, at the servers of the session's stack."""

    def __init__(self, stack, folder):
        self.namespace = f"t{uuid4().hex[:12]}"
        self.gpu_team, self.billing = f"gpu-{self.namespace}", f"billing-{self.namespace}"
        users = deployment_users(
            self.namespace,
            processors={self.gpu_team: ("gpu", "images")},
            teams={self.billing: ("job.succeeded.#",)},
        )
        self.access = Access.fresh(users)
        self.by_role = {user.role: user for user in reversed(users)} | {"limited": users[3]}
        self._state = stack.state
        path = folder / "definitions.json"
        path.write_text(self.access.definitions())
        rabbitmqctl(stack, "import_definitions", str(path))
        with Redis.from_url(self._state.redis_url) as operator:
            for line in self.access.acl().splitlines()[1:]:
                _, name, rules = line.split(" ", 2)
                operator.execute_command("ACL", "SETUSER", name, *_words(rules))
        asyncio.run(self._declare())

    async def _declare(self):
        topology = Topology(namespace=self.namespace)
        async with await self.connect("tracker") as connection:
            await declare(connection, topology.exchanges, topology.shared_queues)
            await declare(connection, (), topology.work_queues(["cpu", "gpu"]))

    async def connect(self, role):
        """Connect to RabbitMQ."""
        return await aio_pika.connect(self.access.url(self._state.rabbitmq_url, self.by_role[role]))

    def redis(self, role):
        """Connect to Redis."""
        return Redis.from_url(self.access.url(self._state.redis_url, self.by_role[role]), driver_info=None)

    def close(self):
        """Delete the queues, exchanges and keys. RabbitMQ's users go with the stack: to delete them takes long."""

        async def delete():
            topology = Topology(namespace=self.namespace)
            async with await aio_pika.connect(self._state.rabbitmq_url) as connection:
                channel = await connection.channel()
                for queue in (*topology.shared_queues, *topology.work_queues(["cpu", "gpu"])):
                    await channel.queue_delete(queue.name)
                for exchange in topology.exchanges:
                    await channel.exchange_delete(exchange.name)

        asyncio.run(delete())
        with Redis.from_url(self._state.redis_url) as operator:
            operator.execute_command("ACL", "DELUSER", *(user.name for user in self.access.users))
            for key in operator.scan_iter(match=f"{self.namespace}:*"):
                operator.delete(key)


def _words(rules):
    """Split the rules of an ACL; a selector, in brackets, is one of them."""
    found = []
    for word in rules.split(" "):
        if found and found[-1].startswith("(") and not found[-1].endswith(")"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


@pytest.fixture(scope="module")
def deployment(stack, tmp_path_factory):
    made = Deployment(stack, tmp_path_factory.mktemp("permissions"))
    yield made
    made.close()


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
    ("team", get, "/TEAM.events"),
    ("team", delete, "/TEAM.events"),
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


# Redis. NS is the namespace.

EVAL_WRITE = "return redis.call('HSET', 'NS:job:{s000}:x', 'status', 'succeeded')"
EVAL_READ = "return redis.call('HGET', KEYS[1], 'status')"
REFUSED_IN_REDIS = [
    *(
        (role, *command)
        for role in ("gateway", "tracker", "processor", "limited", "health")
        for command in (
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("KEYS", "*"),
            ("SCAN", "0"),
            ("CONFIG", "GET", "*"),
            ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
            ("ACL", "LIST"),
            ("CLIENT", "LIST"),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("SHUTDOWN",),
            ("SAVE",),
            ("MONITOR",),
            ("SCRIPT", "FLUSH"),
            ("FUNCTION", "FLUSH"),
            ("REPLICAOF", "NO", "ONE"),
            ("SET", "other:key", "1"),
            ("GET", "other:key"),
            ("PUBLISH", "other", "x"),
        )
    ),
    ("gateway", "SET", "NS:job:{s000}:x", "1"),
    ("gateway", "HSET", "NS:job:{s000}:x", "status", "succeeded"),
    ("gateway", "DEL", "NS:job:{s000}:x"),
    ("gateway", "SET", "NS:type:{shared}:x", "1"),
    ("gateway", "SET", "NS:processor:{shared}:x", "1"),
    ("gateway", "DEL", "NS:checkpoint:{s000}"),
    ("gateway", "EVAL", EVAL_WRITE, "0"),
    ("gateway", "EVAL", EVAL_READ, "1", "NS:job:{s000}:x"),
    ("gateway", "EVAL_RO", EVAL_WRITE, "0"),
    ("gateway", "HGET", "NS:claim:{s000}:x", "state"),
    ("gateway", "GET", "NS:replay:{shared}"),
    ("gateway", "PUBLISH", "NS:changes:{s000}", "x"),
    ("gateway", "SUBSCRIBE", "other"),
    ("gateway", "PSUBSCRIBE", "*"),
    ("processor", "HSET", "NS:job:{s000}:x", "status", "succeeded"),
    ("processor", "EVAL", EVAL_WRITE, "0"),
    ("processor", "EVAL", EVAL_WRITE, "1", "NS:job:{s000}:x"),
    ("processor", "HDEL", "NS:checkpoint:{s000}", "complete"),
    ("processor", "GET", "NS:idempotency:x"),
    ("processor", "SET", "NS:idempotency:x", "1"),
    ("processor", "GET", "NS:type:{shared}:x"),
    ("processor", "ZRANGE", "NS:index:{s000}:default:*:*", "0", "-1"),
    ("processor", "LRANGE", "NS:webhooks:{s000}:x", "0", "-1"),
    ("processor", "DEL", "NS:claim:{s000}:x"),
    ("processor", "SUBSCRIBE", "NS:changes:{s000}"),
    ("processor", "PUBLISH", "NS:changes:{s000}", "x"),
    ("tracker", "HSET", "NS:claim:{s000}:x", "state", "ended"),
    ("tracker", "DEL", "NS:claim:{s000}:x"),
    ("tracker", "EVAL", "return redis.call('HSET', KEYS[1], 'state', 'ended')", "1", "NS:claim:{s000}:x"),
    ("tracker", "SET", "NS:idempotency:x", "1"),
    ("tracker", "GET", "NS:idempotency:x"),
    ("health", "GET", "NS:job:{s000}:x"),
]
ALLOWED_IN_REDIS = [
    ("gateway", "SET", "NS:idempotency:x", "1", "NX", "GET", "EX", "60"),
    ("gateway", "EVAL", "return redis.call('DEL', KEYS[1])", "1", "NS:idempotency:x"),
    ("gateway", "EVAL_RO", EVAL_READ, "1", "NS:job:{s000}:x"),
    ("gateway", "EVAL_RO", "return redis.call('INFO', 'server')", "0"),
    ("processor", "EVAL", "return redis.call('HSET', KEYS[1], 'state', 'running')", "2", "NS:claim:{s000}:x",
     "NS:job:{s000}:x"),
    ("processor", "EVAL", EVAL_READ, "1", "NS:job:{s000}:x"),
    ("limited", "HGET", "NS:claim:{s000}:x", "state"),
    ("tracker", "EVAL", EVAL_WRITE, "0"),
    ("tracker", "EVAL", EVAL_READ, "2", "NS:claim:{s000}:x", "NS:job:{s000}:x"),
    ("tracker", "PUBLISH", "NS:changes:{s000}", "x"),
    ("health", "PING"),
]  # fmt: skip


def redis_sentence(line):
    return " ".join(line).replace("redis.call", "")[:90]


def ask(deployment, line):
    """Do a command as a user; raise if it is refused."""
    role, *words = line
    with deployment.redis(role) as client:
        words = [word.replace("NS", deployment.namespace) for word in words]
        client.execute_command(*words)


@pytest.mark.parametrize("line", REFUSED_IN_REDIS, ids=redis_sentence)
def test_redis_refuses(deployment, line):
    """Each of these is refused, by the ACL alone; inside a script too."""
    with pytest.raises(
        (NoPermissionError, ResponseError),
        match=r"permission|can.t run this command|can.t access at least one|Write commands are not",
    ):
        ask(deployment, line)


@pytest.mark.parametrize("line", ALLOWED_IN_REDIS, ids=redis_sentence)
def test_redis_allows(deployment, line):
    """What a service does is allowed."""
    ask(deployment, line)


@pytest.mark.parametrize("words", [("PING",), ("GET", "x"), ("INFO",)], ids=" ".join)
def test_redis_answers_nobody_without_a_user(stack, words):
    """The user without a name is off."""
    server = stack.state.redis_url
    client = Redis.from_url(f"redis://{server.rpartition('@')[2]}", driver_info=None)
    with client, pytest.raises((AuthenticationError, ResponseError), match=r"uthenticat"):
        client.execute_command(*words)


async def test_rabbitmq_has_no_user_guest(stack):
    """Neither the default user nor its password."""
    server = stack.state.rabbitmq_url.rpartition("@")[2]
    with pytest.raises(aiormq.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@{server}")
