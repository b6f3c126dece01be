"""What befalls Redis."""

import time

from fault_suite.cluster import Cluster
from fault_suite.scenario import Pace


def kill_redis(cluster: Cluster, pace: Pace) -> None:
    """End Redis at once, and start it again on what its log holds."""
    del pace
    cluster.kill("redis")
    time.sleep(2)
    cluster.bring_back("redis")


def forget_all(cluster: Cluster, pace: Pace) -> None:
    """FLUSHALL: status, claims, catalogue and all."""
    del pace
    cluster.redis.flushall()


def fill_redis(cluster: Cluster, pace: Pace) -> None:
    """Give Redis no memory to write with."""
    with cluster.redis as redis:
        redis.config_set("maxmemory", "1mb")
        try:
            time.sleep(pace.seconds(20))
        finally:
            redis.config_set("maxmemory", "0")
