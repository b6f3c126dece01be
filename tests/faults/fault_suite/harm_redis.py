"""Faults of Redis."""

import time

from fault_suite.cluster import Cluster
from fault_suite.scenario import Pace


def kill_redis(cluster: Cluster, pace: Pace) -> None:
    """Kill Redis, and restart it with what its append-only file holds."""
    del pace
    cluster.kill("redis")
    time.sleep(2)
    cluster.bring_back("redis")


def flush_redis(cluster: Cluster, pace: Pace) -> None:
    """FLUSHALL: status, claims, job types and all other keys."""
    del pace
    cluster.redis.flushall()


def fill_redis(cluster: Cluster, pace: Pace) -> None:
    """Leave Redis no memory to write with."""
    with cluster.redis as redis:
        redis.config_set("maxmemory", "1mb")
        try:
            time.sleep(pace.seconds(20))
        finally:
            redis.config_set("maxmemory", "0")
