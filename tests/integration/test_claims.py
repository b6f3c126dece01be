"""Claims in a real Redis."""

from datetime import timedelta

import pytest
from claims_suite import ClaimsSuite
from job_histories import LONG_RETENTION
from redis import Redis
from samples import AT, ENDED, HEARTBEAT, JUST_SUBMITTED, RUNNING

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    CancelRequest,
    JobFailed,
    JobInterrupted,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.messages.worker_events import ProcessorHeartbeat, ProcessorStopped
from milepost_contracts.status.ends import canceled_before_start, expired, inferred
from milepost_contracts.status.merge import cancel_key, merge
from milepost_contracts.status.redis_keys import SHARDS, shard_of
from milepost_contracts.values import LAST_STEP, Attempt, JobError
from milepost_processor.adapters.claims import RedisClaims
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import ResumePoint, Verdict
from milepost_tracker.adapters.redis.job_counts import RedisJobCounts
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.adapters.redis.worker_store import RedisWorkerStore
from milepost_tracker.ports.status_store import ClaimState


class TestTheLuaScript(ClaimsSuite):
    """Passes the same suite as the fake of the unit tests."""

    def expire_holder(self, claims):
        if claims._redis.exists(claims._keys.claim(JUST_SUBMITTED.id)):
            claims._redis.hset(claims._keys.claim(JUST_SUBMITTED.id), "alive", 0)

    def renew_holder(self, claims):
        run, delivery, execution = claims._redis.hmget(
            claims._keys.claim(JUST_SUBMITTED.id), "run", "delivery", "execution"
        )
        changes = {"run": int(run), "delivery": int(delivery), "execution": execution.decode()}
        assert [Verdict.RUN] == claims.renew([JUST_SUBMITTED.model_copy(update=changes)])


def test_an_unavailable_redis_raises_claims_unavailable(keys):
    """No verdict is better than a wrong one."""
    with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5) as unreachable:
        claims = RedisClaims(unreachable, keys, retention=timedelta(days=7))
        with pytest.raises(ClaimsUnavailable):
            claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
        with pytest.raises(ClaimsUnavailable):
            claims.end(ENDED, JobSucceeded(job=ENDED))
        with pytest.raises(ClaimsUnavailable):
            claims.confirm([JobSucceeded(job=ENDED)])
        with pytest.raises(ClaimsUnavailable):
            claims.renew([JUST_SUBMITTED])
        with pytest.raises(ClaimsUnavailable):
            claims.keep(JUST_SUBMITTED, ResumePoint())


@pytest.mark.parametrize("complete", [None, "0" * 40], ids=["not marked", "another server"])
def test_an_incomplete_redis_raises_claims_unavailable(claims, redis_url, keys, complete):
    """A cancel or an end may be missing: a canceled job would run."""
    with Redis.from_url(redis_url) as redis:
        checkpoint = keys.checkpoint(shard_of(JUST_SUBMITTED.id))
        redis.hdel(checkpoint, "complete")
        if complete:
            redis.hset(checkpoint, "complete", complete)
    with pytest.raises(ClaimsUnavailable, match="may have lost"):
        claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")


@pytest.mark.parametrize(
    "view, verdict",
    [
        ({}, Verdict.RUN),
        ({"cancel_key": "0001.8232711154321"}, Verdict.CANCELED),
        ({"cancel_key": "0002.8232711154321"}, Verdict.RUN),
        ({"sequence": "0001.1.00000000.00000000.1.0000000000"}, Verdict.FINISHED),
        ({"sequence": "0001.0.00000000.00000000.1.0000000000"}, Verdict.RUN),
        ({"sequence": "0002.0.00000000.00000000.0.0000000000"}, Verdict.STALE),
        ({"sequence": "0001.1.00000000.00000000.1.0000000000", "cancel_key": "0001.8232711154321"}, Verdict.FINISHED),
    ],
)
def test_a_claim_checks_the_trackers_view_atomically(claims, redis_url, keys, view, verdict):
    """In one script with the claim: a cancel comes before it or after it, never in between."""
    with Redis.from_url(redis_url) as redis:
        if view:
            redis.hset(keys.job(JUST_SUBMITTED.id), mapping=view)
            redis.expire(keys.job(JUST_SUBMITTED.id), 60)
        assert verdict == claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w").verdict
        assert (verdict is Verdict.RUN) == bool(redis.exists(keys.claim(JUST_SUBMITTED.id)))


@pytest.mark.parametrize("started", [False, True])
async def test_a_job_that_the_tracker_has_ended_as_expired_is_not_run(claims, redis, keys, started):
    """Unless a processor had started it: then its success still counts, also after a redelivery."""
    store = RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=timedelta(days=30))
    if started:
        claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
        await redis.hset(keys.claim(JUST_SUBMITTED.id), "alive", 0)
    await store.apply(merge([JobSubmitted(job=JUST_SUBMITTED), expired(JUST_SUBMITTED)]))
    verdict = claims.claim(JUST_SUBMITTED, delivery=2, execution="bbbbbbbb", worker="w").verdict
    assert (Verdict.RUN if started else Verdict.FINISHED) == verdict


async def test_the_tracker_reads_the_claim_state_of_a_job(claims, redis, keys):
    """Before it ends a job that is still running, or quarantines one that has ended."""
    store = RedisStatusStore(redis, keys, retention=LONG_RETENTION, live_for=timedelta(days=30))
    assert ClaimState.WAITING == await store.claim_state(JUST_SUBMITTED)
    assert () == await store.attempts(JUST_SUBMITTED)
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    assert ClaimState.HELD == await store.claim_state(JUST_SUBMITTED)
    await redis.hset(keys.claim(JUST_SUBMITTED.id), "alive", 0)
    assert ClaimState.STARTED == await store.claim_state(JUST_SUBMITTED)
    assert ClaimState.WAITING == await store.claim_state(JUST_SUBMITTED.model_copy(update={"quarantined": 100})), (
        "not started since its quarantine"
    )
    assert ClaimState.WAITING == await store.claim_state(JUST_SUBMITTED.model_copy(update={"run": 2}))
    assert [1] == [one.number for one in await store.attempts(JUST_SUBMITTED)]
    assert () == await store.attempts(JUST_SUBMITTED.model_copy(update={"run": 2}))
    first = JUST_SUBMITTED.model_copy(update={"delivery": 1, "execution": "aaaaaaaa", "attempt": 1})
    put_back = JobRetrying(job=first.model_copy(update={"run_at": AT}))
    claims.end(first, put_back)
    assert ClaimState.HELD == await store.claim_state(JUST_SUBMITTED), "the outcome may not be stored"
    claims.confirm([put_back])
    assert ClaimState.OVER == await store.claim_state(JUST_SUBMITTED)
    assert ClaimState.WAITING == await store.claim_state(put_back.job)
    failed = JobFailed(job=first.model_copy(update={"finished_at": AT, "error": JobError(kind="x", message="no")}))
    claims.end(first, failed)
    claims.confirm([failed])
    assert ClaimState.OVER == await store.claim_state(JUST_SUBMITTED)


FIRST = RUNNING.model_copy(
    update={
        "created_at": JUST_SUBMITTED.created_at,
        "delivery": 1,
        "execution": "aaaaaaaa",
        "attempt": 1,
        "attempts": (Attempt(number=1, started_at=AT),),
    }
)
NOW = now()
FAILED = FIRST.model_copy(update={"finished_at": NOW, "error": JobError(kind="exception", message='],"tags":')})
PUT_BACK = FIRST.model_copy(
    update={
        "step": LAST_STEP,
        "run_at": AT,
        "attempts": (Attempt(number=1, started_at=AT, ended_at=AT, why='no ],"tags":[{"attempt":7'),),
    }
)
LOST = FAILED.model_copy(update={"delivery": inferred(1), "error": JobError(kind="lost", message="no")})

QUARANTINED = FIRST.model_copy(update={"delivery": 100, "quarantined": 100, "execution": "0" * 8})
DEAD_LETTERED = QUARANTINED.model_copy(
    update={"delivery": 200, "finished_at": NOW, "error": JobError(kind="dead_lettered", message="no")}
)


@pytest.fixture
async def apply(claims, redis, keys):
    """Apply an event to the view."""
    store = RedisStatusStore(redis, keys, retention=timedelta(days=7), live_for=timedelta(days=30))
    await store.checkpoints.begin_replay(range(SHARDS))
    assert await store.checkpoints.mark_complete(range(SHARDS))

    async def applied(*events):
        await store.apply(merge(events))

    return applied


@pytest.mark.parametrize(
    "event, delivery, verdict, attempt",
    [
        (JobFailed(job=FAILED), 1, Verdict.FINISHED, None),
        (JobFailed(job=FAILED), 2, Verdict.FINISHED, None),
        (JobRetrying(job=PUT_BACK), 2, Verdict.STALE, None),
        (JobInterrupted(job=PUT_BACK), 2, Verdict.STALE, None),
        (JobStarted(job=FIRST), 2, Verdict.RUN, 2),
        (JobFailed(job=LOST), 2, Verdict.RUN, 2),
        (JobFailed(job=DEAD_LETTERED), 2, Verdict.FINISHED, None),
        (JobSubmitted(job=JUST_SUBMITTED), 2, Verdict.RUN, 1),
        (expired(JUST_SUBMITTED.model_copy(update={"created_at": NOW})), 2, Verdict.FINISHED, None),
    ],
    ids=lambda value: getattr(value, "fact", None),
)
async def test_what_a_lost_claim_knew_is_read_from_the_view(claims, apply, event, delivery, verdict, attempt):
    """Redis was rebuilt from the log: what ended or was put back does not run again, and attempts go on counting.

    An end that a tracker has inferred does not stop the message: it may still succeed.
    """
    await apply(event)
    claim = claims.claim(JUST_SUBMITTED, delivery=delivery, execution="bbbbbbbb", worker="w")
    assert verdict == claim.verdict
    if attempt is not None:
        assert (attempt, list(range(1, attempt))) == (claim.attempt, [one.number for one in claim.earlier])


async def test_the_next_message_runs_after_a_lost_claim(claims, apply):
    """A retry is newer than the failure of a stale attempt, and than the put-back that it carries."""
    await apply(JobRetrying(job=PUT_BACK))
    again = claims.claim(PUT_BACK, delivery=2, execution="bbbbbbbb", worker="w")
    assert (Verdict.RUN, 2, PUT_BACK.attempts) == (again.verdict, again.attempt, again.earlier)


async def test_a_quarantined_job_runs_after_a_lost_claim(claims, apply):
    """The view shows the quarantine, which this message is."""
    await apply(JobQuarantined(job=QUARANTINED))
    claim = claims.claim(QUARANTINED, delivery=101, execution="bbbbbbbb", worker="w")
    assert (Verdict.RUN, 2) == (claim.verdict, claim.attempt)


async def test_an_attempt_that_was_put_back_while_redis_was_away_is_not_run_again(claims, apply):
    """Its end is not in the claim; the view shows it."""
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    await apply(JobRetrying(job=PUT_BACK))
    assert Verdict.STALE == claims.claim(JUST_SUBMITTED, delivery=2, execution="bbbbbbbb", worker="w").verdict


async def test_an_outcome_that_readers_have_seen_is_not_published_again(claims, apply):
    """Although its confirm was not recorded: its processor died in that second."""
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    failed = JobFailed(job=FAILED)
    assert failed == claims.end(FIRST, failed)
    assert Verdict.UNCONFIRMED == claims.claim(JUST_SUBMITTED, delivery=2, execution="bbbbbbbb", worker="w").verdict
    await apply(failed)
    assert Verdict.FINISHED == claims.claim(JUST_SUBMITTED, delivery=2, execution="bbbbbbbb", worker="w").verdict


async def test_an_end_that_readers_have_seen_stands(claims, apply):
    """A success or cancel of another; and a failure changes no end that was inferred, but success does."""
    await apply(JobFailed(job=LOST))
    success = JobSucceeded(job=FAILED.model_copy(update={"error": None}))
    retry = JobRetrying(job=PUT_BACK)
    assert claims.end(FIRST, JobFailed(job=FAILED)) is None
    assert retry == claims.end(FIRST, retry)
    assert success == claims.end(FIRST, success)
    await apply(canceled_before_start(JUST_SUBMITTED, requested_at=NOW))
    assert claims.end(FIRST, success) is None


async def test_a_canceled_job_does_not_run_after_its_document_has_expired(claims, redis, keys):
    """Its message may wait for months: what orders its events is kept as long, and no late event brings it back."""
    store = RedisStatusStore(redis, keys, retention=timedelta(milliseconds=1), live_for=timedelta(days=30))
    await store.checkpoints.begin_replay(range(SHARDS))
    assert await store.checkpoints.mark_complete(range(SHARDS))
    await store.apply(merge([JobScheduled(job=JUST_SUBMITTED.model_copy(update={"run_at": AT}))]))
    await store.apply(merge([canceled_before_start(JUST_SUBMITTED, requested_at=now())]))
    while await redis.hexists(keys.job(JUST_SUBMITTED.id), "state"):
        await store.sweep()
    assert await redis.hget(keys.job(JUST_SUBMITTED.id), "hidden") is None
    assert await redis.pttl(keys.job(JUST_SUBMITTED.id)) > 29 * 86_400_000
    assert Verdict.FINISHED == claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w").verdict
    await store.apply(merge([JobSucceeded(job=FAILED.model_copy(update={"error": None}))]))
    assert await redis.hget(keys.job(JUST_SUBMITTED.id), "state") is None


def test_a_canceled_claim_has_the_time_of_the_request(claims, redis_url, keys):
    """So its end has the same bytes, whether a tracker or a processor publishes it."""
    request = CancelRequest(job_id=JUST_SUBMITTED.id, type="t", queue="q", requested_at=AT)
    with Redis.from_url(redis_url) as redis:
        redis.hset(keys.job(JUST_SUBMITTED.id), "cancel_key", cancel_key(request))
        redis.expire(keys.job(JUST_SUBMITTED.id), 60)
    claim = claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    assert (Verdict.CANCELED, AT) == (claim.verdict, claim.cancel_requested_at)


async def test_the_tracker_knows_which_jobs_have_a_live_processor(claims, redis, keys):
    """By the claims that are renewed, and by the heartbeats; it ends none of them as lost."""
    store = RedisStatusStore(redis, keys, retention=timedelta(days=7), live_for=timedelta(days=30))
    workers, job_counts = RedisWorkerStore(redis, keys), RedisJobCounts(redis, keys)
    assert set() == await store.held([JUST_SUBMITTED.id])
    assert [] == await job_counts.heartbeats()
    claims.claim(JUST_SUBMITTED, delivery=1, execution="aaaaaaaa", worker="w")
    assert {JUST_SUBMITTED.id} == await store.held(["other", JUST_SUBMITTED.id])
    await redis.hset(keys.claim(JUST_SUBMITTED.id), "alive", 0)
    assert set() == await store.held([JUST_SUBMITTED.id])
    await workers.record(ProcessorHeartbeat(heartbeat=HEARTBEAT))
    assert [HEARTBEAT] == await job_counts.heartbeats()
    await workers.record(ProcessorStopped(heartbeat=HEARTBEAT))
    assert [] == await job_counts.heartbeats()
