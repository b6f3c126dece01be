"""The users of one deployment, at RabbitMQ and in Redis: one for each service, for people, and for other teams."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from milepost_contracts.messages.topology import Topology
from milepost_contracts.permissions import broker, redis
from milepost_contracts.permissions.broker import BrokerPermissions
from milepost_contracts.status.redis_keys import Keys

UserRole = Literal["gateway", "tracker", "processor", "team", "health", "operator"]


RESERVED = frozenset({"amq", *get_args(UserRole)})
"""Names that no further user may have: RabbitMQ's own queues begin with `amq.`, and roles name files."""


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
        ValueError: A name is taken: a team's queues would be Milepost's own, or two users would share a name.
    """
    more = [*(processors or {}), *(teams or {})]
    if taken := {name for name in more if name in RESERVED or name == namespace or more.count(name) > 1}:
        raise ValueError(f"{min(taken)!r} is taken: choose another name for the user")
    topology, keys = Topology(namespace=namespace), Keys(namespace=namespace)
    claims = redis.PROCESSOR.rules(keys)
    limited = [
        User(
            name=name,
            role="processor",
            broker=broker.processor(topology, queues),
            redis=claims,
            queues=tuple(sorted(queues)),
        )
        for name, queues in (processors or {}).items()
    ]
    others = [
        User(name=name, role="team", broker=broker.team(topology, name, bound)) for name, bound in (teams or {}).items()
    ]
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
