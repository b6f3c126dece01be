"""The gate in a real Redis."""

from datetime import timedelta

import pytest
from gate_suite import GateSuite
from redis import Redis
from samples import SUBMITTED

from milepost_contracts.keys import shard_of
from milepost_processor.errors import GateUnavailable
from milepost_processor.gate import RedisGate
from milepost_processor.ports import Verdict
from milepost_tracker.ports import Standing
from milepost_tracker.store import RedisStatusStore


def vouch(redis, keys):
    """Say what a tracker says once it has looked at what this server has."""
    mark = keys.mark(shard_of(SUBMITTED.id))
    redis.hset(mark, mapping={"whole": redis.info("server")["run_id"], "at": 1})
    redis.expire(mark, 60)


@pytest.fixture
def gate(redis_url, keys):
    with Redis.from_url(redis_url) as redis:
        vouch(redis, keys)
        yield RedisGate(redis, keys, retention=timedelta(days=7))


class TestTheLuaScript(GateSuite):
    """Passes the very suite that the fake of the unit tests passes."""

    def silence(self, gate):
        if gate._redis.exists(gate._keys.claim(SUBMITTED.id)):
            gate._redis.hset(gate._keys.claim(SUBMITTED.id), "alive", 0)

    def speak(self, gate):
        run, turn, execution = gate._redis.hmget(gate._keys.claim(SUBMITTED.id), "run", "turn", "execution")
        told = {"run": int(run), "turn": int(turn), "execution": execution.decode()}
        assert [Verdict.RUN] == gate.verdicts([SUBMITTED.model_copy(update=told)])


def test_a_redis_that_is_away_gives_no_verdict(keys):
    """Rather than a wrong one."""
    with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5) as nobody:
        gate = RedisGate(nobody, keys, retention=timedelta(days=7))
        with pytest.raises(GateUnavailable):
            gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w")
        with pytest.raises(GateUnavailable):
            gate.finish(SUBMITTED, absorbing=True)
        with pytest.raises(GateUnavailable):
            gate.verdicts([SUBMITTED])


@pytest.mark.parametrize("whole", [None, "0" * 40], ids=["forgotten", "another server"])
def test_a_redis_that_may_have_forgotten_something_gives_no_verdict(gate, redis_url, keys, whole):
    """What it lacks may be a cancel, or an end: a job that was told to be canceled would run."""
    with Redis.from_url(redis_url) as redis:
        mark = keys.mark(shard_of(SUBMITTED.id))
        redis.hdel(mark, "whole")
        if whole:
            redis.hset(mark, "whole", whole)
    with pytest.raises(GateUnavailable, match="may have lost"):
        gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w")


@pytest.mark.parametrize(
    "view, verdict",
    [
        ({}, Verdict.RUN),
        ({"cancel_key": "0001.9"}, Verdict.CANCELED),
        ({"cancel_key": "0002.9"}, Verdict.RUN),
        ({"sequence": "0001.1.00000000.00000000.1.0000000000"}, Verdict.FINISHED),
        ({"sequence": "0001.0.00000000.00000000.1.0000000000"}, Verdict.RUN),
        ({"sequence": "0002.0.00000000.00000000.0.0000000000"}, Verdict.STALE),
        ({"sequence": "0001.1.00000000.00000000.1.0000000000", "cancel_key": "0001.9"}, Verdict.FINISHED),
    ],
)
def test_the_gate_reads_what_the_tracker_knows(gate, redis_url, keys, view, verdict):
    """In the same step as the claim: a cancel comes before it or after it, never in between."""
    with Redis.from_url(redis_url) as redis:
        if view:
            redis.hset(keys.job(SUBMITTED.id), mapping=view)
            redis.expire(keys.job(SUBMITTED.id), 60)
        assert verdict == gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w").verdict
        assert (verdict is Verdict.RUN) == bool(redis.exists(keys.claim(SUBMITTED.id)))


async def test_the_tracker_knows_how_far_processors_have_come(gate, redis, keys):
    """From the claim: before it gives up a job that somebody runs, or puts one in quarantine that is over."""
    store = RedisStatusStore(redis, keys, retention=timedelta(days=7), live_for=timedelta(days=30))
    assert Standing.WAITS == await store.standing(SUBMITTED)
    assert () == await store.claimed(SUBMITTED)
    gate.claim(SUBMITTED, turn=1, execution="aaaaaaaa", worker="w")
    assert Standing.HELD == await store.standing(SUBMITTED)
    await redis.hset(keys.claim(SUBMITTED.id), "alive", 0)
    assert Standing.STARTED == await store.standing(SUBMITTED)
    assert Standing.WAITS == await store.standing(SUBMITTED.model_copy(update={"quarantined": 100})), (
        "not since its quarantine"
    )
    assert Standing.WAITS == await store.standing(SUBMITTED.model_copy(update={"run": 2}))
    assert [1] == [one.number for one in await store.claimed(SUBMITTED)]
    assert () == await store.claimed(SUBMITTED.model_copy(update={"run": 2}))
    gate.finish(SUBMITTED.model_copy(update={"turn": 1}), absorbing=False)
    assert Standing.OVER == await store.standing(SUBMITTED)
