"""A deployment with a user for each service, at the servers of a stack."""

import asyncio
from uuid import uuid4

import aio_pika
from broker_control import rabbitmqctl
from redis import Redis

from milepost_contracts.messages.topology import Topology
from milepost_contracts.permissions.users import deployment_users
from milepost_rabbit.declare import declare
from milepost_stack.access import Access


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
