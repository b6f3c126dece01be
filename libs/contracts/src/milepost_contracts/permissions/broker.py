"""What each user may do at RabbitMQ, derived from the topology: no more than its service does (law 11).

A permission is a regular expression of names of queues and exchanges. `write` means to publish to an exchange, and to
bind a queue; `read` to consume, purge and bind to; `configure` to declare and delete. A topic permission is one of the
routing keys of an exchange: to publish with, or to bind. Source: https://www.rabbitmq.com/docs/access-control
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from milepost_contracts.messages.broker_objects import Exchange
from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.job_events import POSTPONED_IN_QUARANTINE
from milepost_contracts.messages.senders import FACTS, Role
from milepost_contracts.messages.topology import WEBHOOK_KEY, WORKER_KEY, Topology

ALL, NOTHING = ".*", "^$"
WORD, DOT = "[^.]+", r"\."
GATEWAY_FACTS = tuple(sorted(FACTS[Role.GATEWAY] - {WEBHOOK_KEY}))
"""What a gateway publishes about jobs."""
WORKER_FACTS = tuple(sorted(fact for fact in FACTS[Role.PROCESSOR] if fact.startswith(f"{WORKER_KEY}.")))
"""What a processor publishes about itself."""
PROCESSOR_FACTS = (*sorted(FACTS[Role.PROCESSOR] - {*WORKER_FACTS}), POSTPONED_IN_QUARANTINE)
"""What a processor publishes about jobs of its queues."""


@dataclass(frozen=True, kw_only=True)
class TopicPermission:
    """Which routing keys of a topic exchange a user may publish with (`write`), or bind (`read`)."""

    exchange: str
    write: str = NOTHING
    read: str = NOTHING


@dataclass(frozen=True, kw_only=True)
class BrokerPermissions:
    """What one user may do in the virtual host; anything at all on an exchange without a topic permission."""

    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING
    topics: tuple[TopicPermission, ...] = ()


OPERATOR = BrokerPermissions(configure=ALL, write=ALL, read=ALL)
"""A person who looks after the broker, and reads the poison queue."""


def tracker(topology: Topology) -> BrokerPermissions:
    """Everything in the namespace: the tracker alone declares the topology, and publishes what was lost again."""
    own = f"^{re.escape(topology.namespace)}{DOT}"
    return BrokerPermissions(configure=own, write=own, read=own)


def gateway(topology: Topology) -> BrokerPermissions:
    """Publishes submissions, requests and webhooks; declares, binds and consumes nothing.

    It asks for the length of the queues that it publishes to. RabbitMQ 3.10 lets everybody do that; since 4.2.7 and
    4.3.1 it takes any permission on the queue, and `write` is the one that lets a user do nothing with a queue: to
    bind it takes `read` on an exchange too. The exchanges of the same names are closed by a topic permission.
    """
    counted = (topology.lifecycle, topology.log, topology.webhook_queue, *topology.delay_queues)
    names = (topology.jobs.name, topology.internal.name, topology.webhooks.name, *(queue.name for queue in counted))
    keys = _keys(GATEWAY_FACTS, WORD)
    return BrokerPermissions(
        write=_one_of([*map(re.escape, names), re.escape(topology.work_queue_name("")) + WORD]),
        topics=(
            TopicPermission(exchange=topology.jobs.name, write=keys),
            TopicPermission(exchange=topology.internal.name, write=keys),
            TopicPermission(exchange=topology.webhooks.name, write=_keys((WEBHOOK_KEY,), WORD)),
            *_closed(topology.delay_exchange(level) for level in range(LEVELS)),
        ),
    )


def processor(topology: Topology, queues: Collection[str] | None = None) -> BrokerPermissions:
    """Consumes the work and quarantine queues of these job queues, and publishes what happens to their jobs.

    `queues` is `None` for all. The broker names its control queue: with `configure` on any other name, it could declare
    an exchange, publish to that with any key, and bind it to `milepost.jobs`. No exchange can have this prefix.
    """
    queue = WORD if queues is None else _group(map(re.escape, sorted(queues)))
    consumed = [re.escape(name("")) + queue for name in (topology.work_queue_name, topology.quarantine_queue_name)]
    jobs, workers = _keys(PROCESSOR_FACTS, queue), _one_of(map(re.escape, WORKER_FACTS))
    published = (topology.jobs, topology.workers, topology.internal)
    return BrokerPermissions(
        configure=_one_of([_NAMED_BY_BROKER]),
        write=_one_of([*(re.escape(exchange.name) for exchange in published), _NAMED_BY_BROKER]),
        read=_one_of([re.escape(topology.control.name), _NAMED_BY_BROKER, *consumed]),
        topics=(
            TopicPermission(exchange=topology.jobs.name, write=jobs),
            TopicPermission(exchange=topology.workers.name, write=workers),
            TopicPermission(exchange=topology.internal.name, write=f"{jobs}|{workers}"),
        ),
    )


def team(topology: Topology, name: str, keys: Collection[str] | None = None) -> BrokerPermissions:
    """Declares and consumes queues `<name>.…`, and binds them to the two public exchanges, with these binding keys.

    `keys` is `None` for all.
    """
    own, public = f"^{re.escape(name)}{DOT}.+", (topology.jobs.name, topology.workers.name)
    bound = ALL if keys is None else _one_of(map(re.escape, sorted(keys)))
    return BrokerPermissions(
        configure=own,
        write=own,
        read=f"{own}|{_one_of(map(re.escape, public))}",
        topics=tuple(TopicPermission(exchange=exchange, read=bound) for exchange in public),
    )


_NAMED_BY_BROKER = re.escape("amq.gen-") + ".+"


def _group(patterns: Iterable[str]) -> str:
    return f"({'|'.join(patterns)})"


def _one_of(patterns: Iterable[str]) -> str:
    return f"^{_group(patterns)}$"


def _keys(facts: Iterable[str], queue: str) -> str:
    """Return the routing keys of facts about jobs of a queue: the type follows, and the bits of a delay may."""
    return f"^{_group(map(re.escape, facts))}{DOT}{queue}{DOT}{WORD}({DOT}[01])*$"


def _closed(exchanges: Iterable[Exchange]) -> tuple[TopicPermission, ...]:
    return tuple(TopicPermission(exchange=exchange.name) for exchange in exchanges)
