"""Claims in a real Redis."""

from datetime import timedelta

import pytest
from claims_suite import ClaimsSuite
from job_histories import LONG_RETENTION
from redis import Redis
from samples import SUBMITTED

from milepost_contracts.status.redis_keys import shard_of
from milepost_processor.adapters.claims import RedisClaims
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import ResumePoint, Verdict
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.ports.status_store import ClaimState


def declare_complete(redis, keys):
    """Do what a tracker does once it has checked that this server lost nothing."""
    checkpoint = keys.checkpoint(shard_of(SUBMITTED.id))
    redis.hset(checkpoint, mapping={"complete": redis.info("server")["run_id"], "at": 1})
    redis.expire(checkpoint, 60)


@pytest.fixture
def claims(redis_url, keys):
    with Redis.from_url(redis_url) as redis:
        declare_complete(redis, keys)
        yield RedisClaims(redis, keys, retention=timedelta(days=7))


class TestTheLuaScript(ClaimsSuite):
    """Passes the same suite as the fake of the unit tests."""

    def expire_holder(self, claims):
        if claims._redis.exists(claims._keys.claim(SUBMITTED.id)):
            claims._redis.hset(claims._keys.claim(SUBMITTED.id), "alive", 0)

    def renew_holder(self, claims):
        run, delivery, execution = claims._redis.hmget(claims._keys.claim(SUBMITTED.id), "run", "delivery", "execution")
        changes = {"run": int(run), "delivery": int(delivery), "execution": execution.decode()}
        assert [Verdict.RUN] == claims.renew([SUBMITTED.model_copy(update=changes)])


def test_an_unavailable_redis_raises_claims_unavailable(keys):
    """No verdict is better than a wrong one."""
    with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5) as unreachable:
        claims = RedisClaims(unreachable, keys, retention=timedelta(days=7))
        with pytest.raises(ClaimsUnavailable):
            claims.claim(SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
        with pytest.raises(ClaimsUnavailable):
            claims.finish(SUBMITTED, absorbing=True)
        with pytest.raises(ClaimsUnavailable):
            claims.renew([SUBMITTED])
        with pytest.raises(ClaimsUnavailable):
            claims.keep(SUBMITTED, ResumePoint())


@pytest.mark.parametrize("complete", [None, "0" * 40], ids=["not marked", "another server"])
def test_an_incomplete_redis_raises_claims_unavailable(claims, redis_url, keys, complete):
    """A cancel or an end may be missing: a canceled job would run."""
    with Redis.from_url(redis_url) as redis:
        checkpoint = keys.checkpoint(shard_of(SUBMITTED.id))
        redis.hdel(checkpoint, "complete")
        if complete:
            redis.hset(checkpoint, "complete", complete)
    with pytest.raises(ClaimsUnavailable, match="may have lost"):
        claims.claim(SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")


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
def test_a_claim_checks_the_trackers_view_atomically(claims, redis_url, keys, view, verdict):
    """In one script with the claim: a cancel comes before it or after it, never in between."""
    with Redis.from_url(redis_url) as redis:
        if view:
            redis.hset(keys.job(SUBMITTED.id), mapping=view)
            redis.expire(keys.job(SUBMITTED.id), 60)
        assert verdict == claims.claim(SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w").verdict
        assert (verdict is Verdict.RUN) == bool(redis.exists(keys.claim(SUBMITTED.id)))


async def test_the_tracker_reads_the_claim_state_of_a_job(claims, redis, keys):
    """Before it ends a job that is still running, or quarantines one that has ended."""
    store = RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=timedelta(days=30))
    assert ClaimState.WAITING == await store.claim_state(SUBMITTED)
    assert () == await store.attempts(SUBMITTED)
    claims.claim(SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    assert ClaimState.HELD == await store.claim_state(SUBMITTED)
    await redis.hset(keys.claim(SUBMITTED.id), "alive", 0)
    assert ClaimState.STARTED == await store.claim_state(SUBMITTED)
    assert ClaimState.WAITING == await store.claim_state(SUBMITTED.model_copy(update={"quarantined": 100})), (
        "not started since its quarantine"
    )
    assert ClaimState.WAITING == await store.claim_state(SUBMITTED.model_copy(update={"run": 2}))
    assert [1] == [one.number for one in await store.attempts(SUBMITTED)]
    assert () == await store.attempts(SUBMITTED.model_copy(update={"run": 2}))
    claims.finish(SUBMITTED.model_copy(update={"delivery": 1}), absorbing=False)
    assert ClaimState.OVER == await store.claim_state(SUBMITTED)
