"""The users of one deployment, at RabbitMQ and in Redis: one for each service, for people, and for other teams."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.job_events import JOB_MESSAGES
from milepost_contracts.messages.topology import WAITING, Topology
from milepost_contracts.permissions import broker, redis
from milepost_contracts.permissions.broker import BrokerPermissions
from milepost_contracts.status.redis_keys import Keys
from milepost_contracts.values import WORD

UserRole = Literal["gateway", "tracker", "processor", "team", "health", "operator"]
RESERVED = frozenset({"amq", "default", "guest", *get_args(UserRole)})
"""Names that no further user may have: RabbitMQ's own queues begin with `amq.`, both servers have users of their own,
and roles name files."""
_ROUTING_KEYS = (
    *([*fact.split("."), *("*" * (2 + LEVELS * (fact in WAITING)))] for fact in {one.fact for one in JOB_MESSAGES}),
    *(fact.split(".") for fact in broker.WORKER_FACTS),
)
"""The words of all routing keys at the public exchanges; `*` is any word."""


@dataclass(frozen=True, kw_only=True)
class User:
    """A user with the same name at RabbitMQ and in Redis."""

    name: str
    role: UserRole
    #: What it may do at RabbitMQ; `None` if it is no user there.
    broker: BrokerPermissions | None = None
    #: The rules of its ACL in Redis; `None` if it is no user there.
    redis: tuple[str, ...] | None = None
    #: The job queues that a processor may serve; `None` for all.
    queues: tuple[str, ...] | None = None


def deployment_users(
    namespace: str,
    *,
    processors: Mapping[str, Collection[str]] | None = None,
    teams: Mapping[str, Collection[str] | None] | None = None,
) -> tuple[User, ...]:
    """Return the users of a deployment.

    Args:
        namespace: Their names begin with it, except those of `processors` and `teams`.
        processors: More users of processors, and the job queues that each may serve.
        teams: Users of other teams, and the binding keys of each; `None` for any key.

    Raises:
        ValueError: A name is taken: a team's queues would be Milepost's own, or two users would share a name. Or it is
            no name, a queue is none, or no event has a routing key that fits a binding key.
    """
    processors, teams = processors or {}, teams or {}
    _check(namespace, processors, teams)
    topology, keys = Topology(namespace=namespace), Keys(namespace=namespace)
    claims = redis.PROCESSOR.rules(keys)
    limited = [
        User(
            name=name,
            role="processor",
            broker=broker.processor(topology, queues),
            redis=claims,
            queues=tuple(sorted({*queues})),
        )
        for name, queues in processors.items()
    ]
    others = [User(name=name, role="team", broker=broker.team(topology, name, bound)) for name, bound in teams.items()]
    return (
        User(
            name=f"{namespace}-gateway",
            role="gateway",
            broker=broker.gateway(topology),
            redis=redis.GATEWAY.rules(keys),
        ),
        User(
            name=f"{namespace}-tracker",
            role="tracker",
            broker=broker.tracker(topology),
            redis=redis.TRACKER.rules(keys),
        ),
        User(name=f"{namespace}-processor", role="processor", broker=broker.processor(topology), redis=claims),
        *limited,
        *others,
        User(name=f"{namespace}-health", role="health", redis=redis.HEALTH.rules(keys)),
        User(name=f"{namespace}-operator", role="operator", broker=broker.OPERATOR, redis=redis.OPERATOR_RULES),
    )


def user_settings(users: Collection[User]) -> dict[str, str]:
    """Return the settings that tell the services which users belong to which service."""

    def named(role: UserRole) -> str:
        found = [one for one in users if one.role == role]
        return ",".join(one.name if one.queues is None else f"{one.name}:{'+'.join(one.queues)}" for one in found)

    return {
        "MILEPOST_GATEWAY_USERS": named("gateway"),
        "MILEPOST_TRACKER_USERS": named("tracker"),
        "MILEPOST_PROCESSOR_USERS": named("processor"),
    }


def _check(
    namespace: str, processors: Mapping[str, Collection[str]], teams: Mapping[str, Collection[str] | None]
) -> None:
    """Raise `ValueError` for a user that there can't be."""
    names = [*processors, *teams]
    own = {*RESERVED, namespace, *(f"{namespace}-{role}" for role in get_args(UserRole))}
    for name in names:
        if not re.fullmatch(WORD, name):
            raise ValueError(f"{name!r} can't name a user: write lower-case words with hyphens, as in gpu-team")
        if name in own or names.count(name) > 1:
            raise ValueError(f"{name!r} is taken: choose another name for the user")
    for name, queues in processors.items():
        if not queues or not all(re.fullmatch(WORD, queue) for queue in queues):
            raise ValueError(f"write {name}:QUEUE or {name}:QUEUE+QUEUE, with names of queues")
    for key in (key for keys in teams.values() for key in keys or ()):
        if not _fits_an_event(key):
            raise ValueError(f"no event fits the binding key {key!r}: write one such as job.succeeded.# or processor.*")


def _fits_an_event(key: str) -> bool:
    """Whether an event may have a routing key that this binding key fits. What follows a `#` is not looked at."""
    words = key.split(".")
    known = words[: words.index("#")] if "#" in words else words
    return all(word == "*" or re.fullmatch(WORD, word) for word in known) and any(
        (len(known) <= len(one) if "#" in words else len(known) == len(one))
        and all(word == "*" or other in ("*", word) for word, other in zip(known, one, strict=False))
        for one in _ROUTING_KEYS
    )
