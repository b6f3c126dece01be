"""Faults of Redis."""

import time

from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from fault_suite.fault import Scene
from fault_suite.proof import Proof


def kill_redis(scene: Scene) -> Proof:
    """Kill Redis, and restart it with what its append-only file holds."""
    cluster = scene.cluster
    with cluster.held_down("redis"):
        killed = cluster.kill("redis")
        refused = not _answers(scene)
        time.sleep(2)
    return Proof({"kill of Redis": killed, "PING without an answer": refused})


def flush_redis(scene: Scene) -> Proof:
    """FLUSHALL: status, claims, job types and all other keys."""
    with scene.cluster.redis as redis, redis.pipeline() as transaction:
        before, _, after = transaction.dbsize().flushall().dbsize().execute()
    return Proof({"keys deleted": before - after, "empty Redis": after == 0})


def fill_redis(scene: Scene) -> Proof:
    """Leave Redis no memory to write with."""
    with scene.cluster.redis as redis:
        redis.config_set("maxmemory", "1mb")
        try:
            with scene.lasting(20):
                return Proof({"write refused": _refuses_to_write(redis)})
        finally:
            redis.config_set("maxmemory", "0")


def _answers(scene: Scene) -> bool:
    try:
        with scene.cluster.redis as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def _refuses_to_write(redis: Redis) -> bool:
    try:
        redis.set("probe", 1, ex=60)
    except OutOfMemoryError:
        return True
    return False
