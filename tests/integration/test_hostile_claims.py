"""Claims that no processor wrote: the Redis user of any processor can write all of them (ADR 36)."""

import asyncio

import pytest
from claims_suite import ClaimsSuite, outcome
from hypothesis import given
from hypothesis import strategies as st
from merge_suite import RELAXED
from samples import AT, ID, JUST_SUBMITTED
from structlog.testing import capture_logs

from milepost_contracts.messages.job_events import (
    CancelRequest,
    CancelRequested,
    JobProgressed,
    JobQuarantined,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    encode_event,
)
from milepost_contracts.status.merge import merge
from milepost_contracts.values import FileRef
from milepost_processor.errors import OutcomeRefused
from milepost_processor.ports.claims import ResumePoint, Verdict
from milepost_tracker.ports.status_store import ClaimState

OTHER = JUST_SUBMITTED.model_copy(update={"id": "other227"})  # in the same shard
MINE = ClaimsSuite.executed()
SUCCESS = outcome(JobSucceeded, MINE)

FIELDS = (
    *("run", "delivery", "execution", "worker", "state", "attempt", "attempts", "alive", "end", "from", "resume"),
    *("outcome", "outcome_id"),
)
CLAIM = {"run": b"1", "delivery": b"1", "execution": b"aaaaaaaa", "state": b"running", "attempt": b"1", "alive": b"0"}
WORDS = (b"running", b"ending", b"ended", b"put-back", b"absorbing", b"final", b"1", b"9", b"1.9", b"aaaaaaaa")
ODD = (
    *(b"", b"x", b"-1", b"+1", b"1.5", b" 1", b"0x10", b"1e3", b"1e400", b"nan", b"inf", b"null", b"\xff\xfe", b"\x00"),
    *(b"%d" % 2**70, b"9" * 15, b"9" * 400, b"1" * 300_000, b"[" * 5_000, b"[]", b"[{}]", b"{}"),
    *(b'{"saved_state":1e400}', b'[{"number":1000000,"started_at":"2026-01-01T00:00:00Z"}]'),
    *(encode_event(SUCCESS), encode_event(JobSubmitted(job=OTHER))),
)
GARBAGE = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from((*WORDS, *ODD)) | st.binary(max_size=40), min_size=1)
WRONG_TYPES = {
    "string": ("SET", "x"),
    "set": ("SADD", "x"),
    "sorted set": ("ZADD", "1", "x"),
    "list": ("LPUSH", "x"),
    "stream": ("XADD", "*", "run", "1"),
}


@pytest.fixture
def write(claims, keys):
    """Write a claim as somebody who has the user of a processor."""

    def written(fields, job_id=ID):
        redis, key = claims._redis, keys.claim(job_id)
        redis.delete(key)
        redis.hset(key, mapping=fields)
        redis.expire(key, 60)

    return written


@pytest.fixture(params=WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def no_hash(claims, keys, request):
    """A claim that is no hash. The user of a processor can't make one, but who looks after Redis can."""
    command, *words = request.param
    claims._redis.execute_command(command, keys.claim(ID), *words)
    claims._redis.expire(keys.claim(ID), 60)


def claim(claims, job=JUST_SUBMITTED, *, delivery=2, execution="bbbbbbbb"):
    """Claim a job as a processor does: again if an outcome was refused."""
    for _ in range(2):
        try:
            return claims.claim(job, delivery=delivery, execution=execution, worker="w")
        except OutcomeRefused as error:
            refused = error
    raise refused


def cancel_requested(job):
    request = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, requested_at=AT)
    return CancelRequested(request=request)


@RELAXED
@given(garbage=GARBAGE, valid=st.booleans())
async def test_a_tracker_goes_on_beside_any_claim(store, keys, redis, write, garbage, valid):
    """Whatever its fields hold: it neither raises an error nor holds up another job."""
    write((CLAIM if valid else {}) | garbage)
    await redis.delete(keys.job(ID), keys.job(OTHER.id))
    await store.apply(merge([JobSubmitted(job=JUST_SUBMITTED)]))
    applied = await store.apply(merge([cancel_requested(JUST_SUBMITTED), JobSubmitted(job=OTHER)]))
    assert 2 == applied.changed
    assert isinstance(await store.claim_state(JUST_SUBMITTED), ClaimState)
    assert isinstance(await store.attempts(JUST_SUBMITTED), tuple)
    assert await store.held([ID, OTHER.id]) <= {ID}


@RELAXED
@given(garbage=GARBAGE, valid=st.booleans())
def test_a_processor_goes_on_beside_any_claim(claims, keys, write, garbage, valid):
    """Whatever its fields hold: each call has an answer, for this job and for the others."""
    claims._redis.delete(keys.claim(OTHER.id))
    assert Verdict.RUN == claim(claims, OTHER, delivery=1, execution="aaaaaaaa").verdict
    other = OTHER.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"})
    written = (CLAIM if valid else {}) | garbage
    write(written)
    assert isinstance(claim(claims).verdict, Verdict)
    write(written)
    assert Verdict.RUN == claims.renew([MINE, other])[1]
    write(written)
    claims.keep(MINE, ResumePoint(saved_state=1))
    claims.confirm([SUCCESS])
    write(written)
    assert claims.end(MINE, SUCCESS) in (SUCCESS, None)


@pytest.mark.parametrize("field", ["run", "delivery"])
@pytest.mark.parametrize("value", ODD[:18], ids=lambda value: value[:10].decode(errors="replace"))
async def test_a_job_whose_claim_is_unreadable_runs_or_is_canceled(claims, store, write, field, value):
    """A claim that has no run or delivery number is none, so nobody waits for its holder."""
    write(CLAIM | {"alive": b"9" * 15, field: value})
    assert ClaimState.WAITING == await store.claim_state(JUST_SUBMITTED)
    assert set() == await store.held([ID])
    await store.apply(merge([JobSubmitted(job=JUST_SUBMITTED)]))
    applied = await store.apply(merge([cancel_requested(JUST_SUBMITTED)]))
    assert (ID,) == applied.orphans
    claims._redis.hdel(store._keys.job(ID), "cancel_key")
    assert Verdict.RUN == claim(claims).verdict
    assert ClaimState.HELD == await store.claim_state(JUST_SUBMITTED)


@pytest.mark.parametrize(
    "read",
    [
        lambda claims, store: store.held([ID, ID]),
        lambda claims, store: store.apply(merge([cancel_requested(JUST_SUBMITTED)])),
        lambda claims, store: asyncio.to_thread(claim, claims),
    ],
    ids=["a tracker's read", "a tracker's projection", "a processor's claim"],
)
async def test_an_unreadable_claim_is_logged(claims, store, write, read):
    """Once, with the job's id: its claim was not written by a processor."""
    await store.apply(merge([JobSubmitted(job=JUST_SUBMITTED)]))
    write(CLAIM | {"delivery": b"x"})
    with capture_logs() as logged:
        await read(claims, store)
    assert [("claim_unreadable", ID)] == [(entry["event"], entry["job_id"]) for entry in logged]


@pytest.mark.usefixtures("no_hash")
async def test_a_claim_that_is_no_hash_holds_up_no_tracker(store):
    """It counts as none: the job that waits is canceled at once, and the others are projected."""
    await store.apply(merge([JobSubmitted(job=JUST_SUBMITTED)]))
    applied = await store.apply(merge([cancel_requested(JUST_SUBMITTED), JobSubmitted(job=OTHER)]))
    assert (2, (ID,)) == (applied.changed, applied.orphans)
    assert ClaimState.WAITING == await store.claim_state(JUST_SUBMITTED)
    assert () == await store.attempts(JUST_SUBMITTED)
    assert set() == await store.held([ID, OTHER.id])


@pytest.mark.usefixtures("no_hash")
@pytest.mark.parametrize("write_claim", ["claim", "renew", "end"])
def test_a_processor_replaces_a_claim_that_is_no_hash(claims, keys, write_claim):
    """Its job runs and ends, and its other jobs too."""
    other = OTHER.model_copy(update={"delivery": 1, "execution": "aaaaaaaa"})
    assert not claims.keep(MINE, ResumePoint())
    claims.confirm([SUCCESS])
    match write_claim:
        case "claim":
            assert Verdict.RUN == claim(claims).verdict
        case "renew":
            assert [Verdict.RUN, Verdict.RUN] == claims.renew([MINE, other])
        case "end":
            assert SUCCESS == claims.end(MINE, SUCCESS)
    assert b"hash" == claims._redis.type(keys.claim(ID))


def test_what_no_attempt_can_have_kept_is_not_resumed_from(claims, write):
    """Another job's file, or what is no such value: the attempt begins with what its message has."""
    stolen = FileRef(name="a", size=1, key="jobs/other/0000")
    deep = b'{"saved_state":' + b"[" * 150 + b"]" * 150 + b"}"
    for kept in (b"x", b"[]", deep, ResumePoint(saved_state_file=stolen).model_dump_json()):
        write(CLAIM | {"resume": kept})
        assert (Verdict.RUN, None) == (claim(claims).verdict, claim(claims).resume_point)


def forged(kind=JobSucceeded, **changes):
    return encode_event(outcome(kind, MINE.model_copy(update=changes)))


FORGED = {
    "of another job": forged(id="other"),
    "of another run": forged(run=2),
    "of another tenant": forged(tenant="theirs"),
    "of another type": forged(type="count"),
    "of another queue": forged(queue="gpu"),
    "with another grant": forged(grant="1.x"),
    "with other params": forged(JobRetrying, params={"paths": ["/"]}),
    "with secrets": forged(JobRetrying, sealed="1.x"),
    "with another callback URL": forged(callback_url="https://thief.example"),
    "with another creation": forged(created_at=AT),
    "a start": forged(JobStarted),
    "progress": forged(JobProgressed),
    "a command": forged(JobSubmitted),
    "a tracker's fact": forged(JobQuarantined),
    "no event": b"{}",
    "nothing": None,
    "more than a message": b"x" * 300_000,
}


def forged_claim(recorded):
    """Return the claim of a thief: success stands against every other outcome."""
    fields = CLAIM | {"delivery": b"9", "execution": b"99999999", "state": b"ending", "end": b"absorbing"}
    return fields if recorded is None else fields | {"outcome": recorded, "outcome_id": b"x"}


@pytest.mark.parametrize("recorded", FORGED.values(), ids=FORGED.keys())
def test_an_outcome_that_is_not_one_of_the_job_does_not_end_it(claims, keys, write, recorded):
    """A processor drops it, and records and publishes its own; a redelivered job runs."""
    write(forged_claim(recorded))
    assert SUCCESS == claims.end(MINE, SUCCESS)
    assert b"aaaaaaaa" == claims._redis.hget(keys.claim(ID), "execution")
    write(forged_claim(recorded))
    with pytest.raises(OutcomeRefused):
        claims.claim(JUST_SUBMITTED, delivery=2, execution="bbbbbbbb", worker="w")
    assert (Verdict.RUN, None) == (claim(claims).verdict, claim(claims).outcome)


def test_a_repeated_submission_leaves_the_outcome_to_the_message_that_has_it(claims, keys, write):
    """Both are the gateway's, each with its creation and grant: the job has run, and its other message publishes it."""
    write(forged_claim(forged(created_at=AT, grant="1.x")))
    assert claims.end(MINE, SUCCESS) is None
    again = claim(claims)
    assert (Verdict.UNCONFIRMED, None) == (again.verdict, again.outcome)
    assert b"ending" == claims._redis.hget(keys.claim(ID), "state")
