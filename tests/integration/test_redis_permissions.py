"""What each user may do in Redis, one operation a test."""

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

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
    *(
        ("processor", *words)
        for words in (
            ("SET", "NS:claim:{s000}:y", "1"),
            ("SADD", "NS:claim:{s000}:y", "1"),
            ("ZADD", "NS:claim:{s000}:y", "1", "1"),
            ("LPUSH", "NS:claim:{s000}:y", "1"),
            ("HGETALL", "NS:job:{s000}:x"),
            ("ZSCAN", "NS:expiry:{s000}", "0"),
        )
    ),
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
    # An ACL protects keys, not fields: who may read a job's sequence may read its document and its grant too (ADR 36).
    ("limited", "HMGET", "NS:job:{s000}:x", "state", "hidden"),
    ("limited", "HSET", "NS:claim:{s000}:x", "state", "ended"),
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
