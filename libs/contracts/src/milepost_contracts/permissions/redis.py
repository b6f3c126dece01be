"""What each user may do in Redis: read and write the keys that its service owns or needs, and nothing else (law 3).

Redis checks the commands inside a script too. It takes every key that a script is called with (EVAL, EVALSHA) for one
that is written. So a script that writes some of its keys and reads others is allowed by a selector of its own, which
grants the call; what the script does with the keys is checked by the other rules. Redis 7.0 has all of this.
Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

from dataclasses import dataclass

from milepost_contracts.status.redis_keys import Keys

TRACKER_KINDS = (
    "job",
    "index",
    "expiry",
    "deadline",
    "checkpoint",
    "webhooks",
    "tagged",
    "unfinished",
    "disabled",
    "waiting",
    "type",
    "type-versions",
    "types",
    "processor",
    "processors",
    "recorded-since",
    "types-since",
    "poison",
    "poisons",
    "replay",
    "trackers",
)
"""The kinds of keys that the tracker alone writes."""
READ_BY_GATEWAYS = (
    "job",
    "index",
    "checkpoint",
    "webhooks",
    "tagged",
    "unfinished",
    "type",
    "types",
    "types-since",
    "processor",
    "processors",
    "poison",
    "poisons",
)
"""Those of them that gateways read."""
_CALL, _LOAD = ("eval", "evalsha"), ("script|load",)
_CONNECT = ("ping", "select")


@dataclass(frozen=True, kw_only=True)
class RedisPermissions:
    """What one user may do. Kinds are the second words of keys."""

    commands: tuple[str, ...]
    #: Kinds of keys that it reads and writes.
    writes: tuple[str, ...] = ()
    #: Kinds of keys that it only reads.
    reads: tuple[str, ...] = ()
    #: Kinds of keys that its scripts are called with, if they only read some of them.
    calls: tuple[str, ...] = ()
    #: Patterns of channels behind the namespace; an empty one is the namespace itself.
    channels: tuple[str, ...] = ()

    def rules(self, keys: Keys) -> tuple[str, ...]:
        """Return the rules of the user's ACL, without its password."""
        words = [f"+{command}" for command in self.commands]
        words += [f"~{_pattern(keys, kind)}" for kind in self.writes]
        words += [f"%R~{_pattern(keys, kind)}" for kind in self.reads]
        words += [f"&{keys.namespace}{channel}" for channel in self.channels]
        if self.calls:
            called = [*(f"+{command}" for command in _CALL), *(f"~{_pattern(keys, kind)}" for kind in self.calls)]
            words.append(f"({' '.join(called)})")
        return ("resetkeys", "resetchannels", "-@all", *words)


GATEWAY = RedisPermissions(
    commands=(
        *_CONNECT,
        *("eval_ro", "evalsha_ro", *_LOAD, "info", "time"),
        *("get", "mget", "hget", "hmget", "lrange"),
        *("zcard", "zrange", "zrangebyscore", "zrevrange", "zrevrangebyscore"),
        *("subscribe", "unsubscribe"),
        *("set", "del", *_CALL),
    ),
    writes=("idempotency",),
    reads=READ_BY_GATEWAYS,
    channels=("", ":changes:*"),
)
TRACKER = RedisPermissions(
    commands=(
        *_CONNECT,
        *(*_CALL, *_LOAD, "info", "time"),
        *("get", "mget", "set", "del", "exists", "expire", "pexpire", "pttl"),
        *("hget", "hmget", "hgetall", "hexists", "hset", "hdel", "lrange", "rpush", "ltrim"),
        *("zcard", "zcount", "zrange", "zrangebyscore", "zscan", "zadd", "zrem", "zremrangebyscore"),
        "publish",
    ),
    writes=TRACKER_KINDS,
    reads=("claim",),
    calls=("expiry", "deadline", "checkpoint", "job", "claim"),
    channels=(":changes:*",),
)
PROCESSOR = RedisPermissions(
    commands=(*_CONNECT, *_CALL, *_LOAD, "info", "time", "hget", "hmget", "hexists", "hset", "hdel", "pexpire"),
    writes=("claim",),
    reads=("job", "checkpoint"),
    calls=("claim", "job", "checkpoint"),
)
HEALTH = RedisPermissions(commands=("ping",))
"""Asks whether the server is up, for a container's health check."""
OPERATOR_RULES = ("~*", "&*", "+@all")
"""The rules of a person who looks after the server."""


def _pattern(keys: Keys, kind: str) -> str:
    """Return the pattern of a kind's keys. `type` has none of `types` and `type-versions`: a colon follows the kind."""
    return f"{keys.namespace}:{kind}:*"
