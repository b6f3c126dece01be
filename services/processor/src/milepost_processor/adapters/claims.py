"""Claims in Redis: one Lua call decides who runs a job. Processors alone write them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pydantic_core
import structlog
from pydantic import TypeAdapter, ValidationError
from redis import Redis

from milepost_contracts.clock import now
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.delay_levels import MAX_DELAY
from milepost_contracts.messages.job_events import (
    JobCanceled,
    JobEvent,
    JobFailed,
    JobInterrupted,
    JobRetrying,
    JobSucceeded,
    decode_event,
    encode_event,
)
from milepost_contracts.status.deadlines import start_by
from milepost_contracts.status.merge import requested_at
from milepost_contracts.status.redis_keys import Keys, shard_of
from milepost_contracts.values import Attempt, Job, is_own_file, too_deep, utc_text
from milepost_processor.errors import ClaimsUnavailable, OutcomeRefused
from milepost_processor.ports.claims import Claim, ResumePoint, Verdict
from milepost_redis.calls import execute_blocking, milliseconds, milliseconds_since_1970, raising
from milepost_redis.parsing import UnreadableClaims
from milepost_redis.scripts import Script

log = structlog.get_logger(__name__)

CLAIM_TTL = MAX_DELAY + timedelta(days=30)
"""A claim of a run that has not ended expires after this: it outlives the longest wait for the next attempt."""
ALIVE_FOR = timedelta(seconds=3)
"""A processor that has not renewed a claim for this long counts as dead: another one may take the job over."""

_PACKAGE = "milepost_processor.adapters"
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])
_OUTCOMES = (JobSucceeded, JobFailed, JobCanceled, JobRetrying, JobInterrupted)
_IDENTITY = {"id", "run", "tenant", "type", "queue"}
_FROZEN = _IDENTITY | {"created_at", "grant", "tags", "batch", "callback_url", "params", "sealed", "files"}
"""What no event of a run changes."""


class RedisClaims:
    """Implements `ports.claims.Claims`."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = milliseconds(retention)
        names = ("claim", "end", "confirm", "keep", "renew", "drop")
        self._claim, self._end, self._confirm, self._keep, self._renew, self._drop = (
            Script(_PACKAGE, f"{name}.lua", reads_claims=True) for name in names
        )
        self._unreadable = UnreadableClaims()

    def claim(self, job: Job, *, delivery: int, execution: str, worker: str, may_run: bool = True) -> Claim:
        at = now()
        entry = pydantic_core.to_json({"worker": worker, "started_at": utc_text(at)})[1:]
        with raising(ClaimsUnavailable):
            answer: Any = self._claim.run_blocking(
                self._redis,
                [*self._keys_of(job), self._keys.checkpoint(shard_of(job.id))],
                *(job.run, delivery, job.execution, execution, worker, milliseconds(CLAIM_TTL)),
                *(job.attempt, _ATTEMPTS.dump_json(job.attempts), entry, milliseconds(ALIVE_FOR)),
                *(job.quarantined, int(may_run), milliseconds_since_1970(start_by(job))),
            )
        if answer is None:
            raise ClaimsUnavailable("Redis may have lost writes; the trackers are restoring them from the log")
        verdict, attempt, earlier, detail, resume, unreadable = answer
        if unreadable:
            self._unreadable.log(job.id)
        found = Verdict(verdict.decode())
        return Claim(
            verdict=found,
            attempt=attempt,
            at=at,
            earlier=self._attempts(earlier, job),
            cancel_requested_at=requested_at(detail.decode()) if found is Verdict.CANCELED else None,
            outcome=self._believed(detail, job) if found is Verdict.UNCONFIRMED else None,
            resume_point=_resume_point(resume, job) if resume else None,
        )

    def end(self, job: Job, outcome: JobEvent) -> JobEvent | None:
        try:
            return self._record_end(job, outcome)
        except OutcomeRefused:  # it was dropped
            return self._record_end(job, outcome)

    def _record_end(self, job: Job, outcome: JobEvent) -> JobEvent | None:
        status = outcome.status
        kind = "absorbing" if status.absorbing else "final" if status.terminal else "put-back"
        with raising(ClaimsUnavailable):
            answer: Any = self._end.run_blocking(
                self._redis,
                self._keys_of(job),
                *(job.run, job.delivery, job.execution, job.attempt, kind, encode_event(outcome), outcome.event_id),
                self._retention if status.terminal else milliseconds(CLAIM_TTL),
            )
        verdict, *standing = answer
        if verdict == b"unconfirmed":
            return self._believed(standing[0], job)
        return outcome if verdict == b"run" else None

    def confirm(self, outcomes: Sequence[JobEvent]) -> None:
        def fill(pipe: Any) -> None:
            for outcome in outcomes:
                self._confirm.add_to(pipe, [self._keys.claim(outcome.job.id)], outcome.event_id)

        with raising(ClaimsUnavailable):
            execute_blocking(self._redis, fill, self._confirm)

    def keep(self, job: Job, point: ResumePoint) -> bool:
        with raising(ClaimsUnavailable):
            kept = self._keep.run_blocking(
                self._redis,
                [self._keys.claim(job.id)],
                *(job.run, job.delivery, job.execution, point.model_dump_json(exclude_defaults=True)),
            )
        return bool(kept)

    def renew(self, jobs: Sequence[Job]) -> list[Verdict]:
        lengths = (milliseconds(ALIVE_FOR), milliseconds(CLAIM_TTL))

        def fill(pipe: Any) -> None:
            for job in jobs:
                attempt = (job.worker or "", job.attempt, _ATTEMPTS.dump_json(job.attempts))
                self._renew.add_to(pipe, self._keys_of(job), job.run, job.delivery, job.execution, *lengths, *attempt)

        with raising(ClaimsUnavailable):
            answers = execute_blocking(self._redis, fill, self._renew)
        return [Verdict(answer.decode()) for answer in answers]

    def _keys_of(self, job: Job) -> list[str]:
        return [self._keys.claim(job.id), self._keys.job(job.id)]

    def _attempts(self, recorded: bytes, job: Job) -> tuple[Attempt, ...]:
        """Read the attempts that a claim or the view has; those of the message if they can't be read."""
        try:
            return _ATTEMPTS.validate_json(recorded)
        except ValidationError:
            self._unreadable.log(job.id)
            return job.attempts

    def _believed(self, recorded: bytes, job: Job) -> JobEvent | None:
        """Return a recorded outcome, if it is one of this job and run: every processor writes claims.

        `None` if it is that of a repeated submission of the job, whose own message publishes it.

        Raises:
            OutcomeRefused: It is not; the claim was dropped.
        """
        with suppress(MalformedEvent):
            outcome = decode_event(recorded)
            if isinstance(outcome, _OUTCOMES) and _frozen(outcome.job) == _frozen(job):
                return outcome
            if isinstance(outcome, _OUTCOMES) and _is_repeat(outcome.job, job):
                return None
        log.warning("outcome_refused", job_id=job.id)
        with raising(ClaimsUnavailable):
            self._drop.run_blocking(self._redis, [self._keys.claim(job.id)], recorded)
        raise OutcomeRefused("its claim had an outcome that is not believed, and was dropped")


def _resume_point(kept: bytes, job: Job) -> ResumePoint | None:
    """Read what an earlier attempt kept.

    Nothing if no attempt can have kept it, or if it refers to another job's files: every processor writes claims.
    """
    with suppress(ValidationError):
        point = ResumePoint.model_validate_json(kept)
        if not too_deep(point.saved_state) and all(is_own_file(file, job.id) for file in point.all_files):
            return point
    log.warning("resume_point_refused", job_id=job.id)
    return None


def _frozen(job: Job, fields: set[str] = _FROZEN) -> str:
    return job.model_dump_json(include=fields)


def _is_repeat(one: Job, other: Job) -> bool:
    """Whether these are two submissions of one job: a repeat has a creation and a grant of its own (ADR 35)."""
    own = one.created_at != other.created_at and one.grant != other.grant
    return own and _frozen(one, _IDENTITY) == _frozen(other, _IDENTITY)
