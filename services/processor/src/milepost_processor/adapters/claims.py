"""Claims in Redis: one Lua call decides who runs a job. Processors alone write them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pydantic_core
from pydantic import TypeAdapter
from redis import Redis

from milepost_contracts.clock import now
from milepost_contracts.status.redis_keys import Keys, shard_of
from milepost_contracts.values import Attempt, Job, utc_text
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import Claim, ResumePoint, Verdict
from milepost_redis.calls import execute_blocking, milliseconds, raising
from milepost_redis.scripts import Script

CLAIM_TTL = timedelta(days=30)
"""A claim of a run that never ends expires after this: the fencing token does not depend on it."""
ALIVE_FOR = timedelta(seconds=3)
"""A processor that has not renewed a claim for this long counts as dead: another one may take the job over."""

_PACKAGE = "milepost_processor.adapters"
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])


class RedisClaims:
    """Implements `ports.claims.Claims`."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = milliseconds(retention)
        self._claim, self._finish, self._keep, self._renew = (
            Script(_PACKAGE, name) for name in ("claim.lua", "finish.lua", "keep.lua", "renew.lua")
        )

    def claim(self, job: Job, *, delivery: int, execution: str, worker: str) -> Claim:
        at = now()
        entry = pydantic_core.to_json({"worker": worker, "started_at": utc_text(at)})[1:]
        with raising(ClaimsUnavailable):
            answer: Any = self._claim.run_blocking(
                self._redis,
                [*self._keys_of(job), self._keys.checkpoint(shard_of(job.id))],
                *(job.run, delivery, job.execution, execution, worker, milliseconds(CLAIM_TTL)),
                *(job.attempt + 1, _ATTEMPTS.dump_json(job.attempts), entry, milliseconds(ALIVE_FOR)),
            )
        if answer is None:
            raise ClaimsUnavailable("Redis may have lost writes; the trackers are restoring them from the log")
        verdict, attempt, earlier, crashed, resume = answer
        return Claim(
            verdict=Verdict(verdict.decode()),
            attempt=attempt,
            at=at,
            earlier=_ATTEMPTS.validate_json(earlier),
            crashed=bool(crashed),
            resume_point=ResumePoint.model_validate_json(resume) if resume else None,
        )

    def finish(self, job: Job, *, absorbing: bool) -> None:
        with raising(ClaimsUnavailable):
            self._finish.run_blocking(
                self._redis, [self._keys.claim(job.id)], job.run, job.delivery, int(absorbing), self._retention
            )

    def keep(self, job: Job, point: ResumePoint) -> bool:
        with raising(ClaimsUnavailable):
            kept = self._keep.run_blocking(
                self._redis,
                [self._keys.claim(job.id)],
                *(job.run, job.delivery, job.execution, point.model_dump_json(exclude_defaults=True)),
            )
        return bool(kept)

    def renew(self, jobs: Sequence[Job]) -> list[Verdict]:
        alive_for = milliseconds(ALIVE_FOR)

        def fill(pipe: Any) -> None:
            for job in jobs:
                self._renew.add_to(pipe, self._keys_of(job), job.run, job.delivery, job.execution, alive_for)

        with raising(ClaimsUnavailable):
            answers = execute_blocking(self._redis, fill, self._renew)
        return [Verdict(answer.decode()) for answer in answers]

    def _keys_of(self, job: Job) -> list[str]:
        return [self._keys.claim(job.id), self._keys.job(job.id)]
