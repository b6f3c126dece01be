"""Faults of Redis."""

import time

from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from fault_suite.fault import Act, Scene, wait_for
from fault_suite.proof import Proof

PROBE = "probe"
"""A key of ours."""
REPLAYED = 150
"""Seconds; more than what trackers replay of the log after any restart."""
MIN_ENDED = 20


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


def restore_snapshot(*, trackers: bool) -> Act:
    """Restart Redis with its data of long ago; with trackers that remember more, or with new ones."""

    def act(scene: Scene) -> Proof:
        cluster = scene.cluster
        names = [] if trackers else cluster.names("tracker")
        wait_for(lambda: len(_ended_long_ago(scene)), within=REPLAYED + 60, at_least=MIN_ENDED)
        before = _ended_long_ago(scene)
        with cluster.redis as redis:
            redis.set(PROBE, "later", ex=600)
            with cluster.held_down("redis", *names):
                for name in (*names, "redis"):
                    cluster.kill(name)
                cluster.restore_redis()
            old = wait_for(lambda: _is_back(scene) and redis.get(PROBE) is None, within=20)
        wait_for(lambda: not _changed(scene, before), within=60)
        changed = _changed(scene, before)
        scene.require(not changed, f"{len(changed)} jobs that had ended are told otherwise: {changed[:3]}")
        return Proof({"older snapshot": old, "jobs that had ended long before": len(before)})

    return act


def _ended_long_ago(scene: Scene) -> dict[str, object]:
    """Return how jobs ended that ended after the snapshot, and too long ago to be replayed with the latest events."""
    ends = {**scene.cluster.ends, **scene.ledger.ends}
    until = time.time() - REPLAYED
    return {one: document["status"] for one, (at, document) in ends.items() if scene.cluster.snapshot_at < at < until}


def _changed(scene: Scene, before: dict[str, object]) -> list[str]:
    """Return the jobs that are told otherwise now."""
    found = []
    for job_id, status in before.items():
        answer = scene.http.get(f"{scene.cluster.urls()[0]}/v1/jobs/{job_id}")
        now = answer.json()["status"] if answer.status_code == 200 else answer.status_code
        found += [f"{job_id}: {status}, and now {now}"] if now != status else []
    return found


def _is_back(scene: Scene) -> bool:
    """Return whether Redis answers; start it again if another process had taken its port meanwhile."""
    scene.cluster.bring_back("redis")
    return _answers(scene)


def _answers(scene: Scene) -> bool:
    try:
        with scene.cluster.redis as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def _refuses_to_write(redis: Redis) -> bool:
    try:
        redis.set(PROBE, 1, ex=60)
    except OutOfMemoryError:
        return True
    return False
