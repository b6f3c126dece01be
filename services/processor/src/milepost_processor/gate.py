"""The gate in Redis: one Lua call decides who runs a job. Processors alone write claims."""

from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Any

import pydantic_core
from pydantic import TypeAdapter
from redis import Redis
from redis.exceptions import RedisError

from milepost_contracts.envelope import now
from milepost_contracts.keys import Keys, shard_of
from milepost_contracts.values import Attempt, Job, utc_text
from milepost_processor.errors import GateUnavailable
from milepost_processor.ports import Claim, Verdict

CLAIM_FOR = timedelta(days=30)
"""A claim of a run that never ends is forgotten after this: the fence does not need it."""

ALIVE_FOR = timedelta(seconds=3)
"""A processor that has not asked after a running job for so long counts as dead: another one may take over."""

_ALIVE_FOR = int(ALIVE_FOR.total_seconds() * 1000)
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])


def _script(name: str) -> str:
    return files("milepost_processor").joinpath("scripts", name).read_text()


class RedisGate:
    """See `ports.Gate`."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = int(retention.total_seconds() * 1000)
        self._claim = _script("claim.lua")
        self._stand = _script("stand.lua")
        self._finish = _script("finish.lua")

    def claim(self, job: Job, *, turn: int, execution: str, worker: str) -> Claim:
        lasts = int(CLAIM_FOR.total_seconds() * 1000)
        at = now()
        entry = pydantic_core.to_json({"worker": worker, "started_at": utc_text(at)})[1:]
        answer: Any = self._ask(
            self._claim,
            [*self._both_keys(job), self._keys.mark(shard_of(job.id))],
            *(job.run, turn, job.execution, execution, worker, lasts),
            *(job.attempt + 1, _ATTEMPTS.dump_json(job.attempts), entry, _ALIVE_FOR),
        )
        if answer is None:
            raise GateUnavailable(
                "Redis may have lost some of what it had; the trackers are looking, and bring it back"
            )
        verdict, attempt, earlier, crashed = answer
        return Claim(
            verdict=Verdict(verdict.decode()),
            attempt=attempt,
            at=at,
            earlier=_ATTEMPTS.validate_json(earlier),
            crashed=bool(crashed),
        )

    def finish(self, job: Job, *, absorbing: bool) -> None:
        self._ask(self._finish, [self._keys.claim(job.id)], job.run, job.turn, int(absorbing), self._retention)

    def verdicts(self, jobs: Sequence[Job]) -> list[Verdict]:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for job in jobs:
                    pipe.eval(self._stand, 2, *self._both_keys(job), job.run, job.turn, job.execution, _ALIVE_FOR)
                answers: list[Any] = pipe.execute()
        except (RedisError, OSError) as error:
            raise GateUnavailable(str(error)) from error
        return [Verdict(answer.decode()) for answer in answers]

    def _both_keys(self, job: Job) -> list[str]:
        return [self._keys.claim(job.id), self._keys.job(job.id)]

    def _ask(self, script: str, keys: list[str], *arguments: Any) -> Any:
        try:
            return self._redis.eval(script, len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:
            raise GateUnavailable(str(error)) from error
