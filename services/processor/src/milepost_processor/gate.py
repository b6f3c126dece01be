"""The gate in Redis: one Lua call decides who runs a job. Processors alone write claims."""

from datetime import timedelta

from redis import Redis
from redis.exceptions import RedisError

from milepost_contracts.keys import Keys
from milepost_processor.errors import GateUnavailable
from milepost_processor.ports import Verdict

CLAIM_FOR = timedelta(days=30)
"""A claim of a run that never ends is forgotten after this: the fence does not need it."""

_CLAIM = """
local old = redis.call('HMGET', KEYS[1], 'run', 'attempt', 'execution', 'state')
local run, attempt, execution = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local old_run, old_attempt = tonumber(old[1]), tonumber(old[2])
if old_run then
  if run < old_run then return 'stale' end
  if run == old_run then
    if old[4] == 'ended' then return 'finished' end
    if attempt < old_attempt then return 'stale' end
    if attempt == old_attempt and execution ~= old[3] then return 'taken' end
  end
end
redis.call('HSET', KEYS[1],
  'run', run, 'attempt', attempt, 'execution', execution, 'worker', ARGV[4], 'state', 'running')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 'run'
"""

_FINISH = """
local old = redis.call('HMGET', KEYS[1], 'run', 'attempt')
local old_run, old_attempt = tonumber(old[1]), tonumber(old[2])
local run, attempt = tonumber(ARGV[1]), tonumber(ARGV[2])
if old_run and old_run > run then return 0 end
if old_run == run and old_attempt > attempt and ARGV[3] ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'run', run, 'attempt', attempt, 'state', 'ended')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


class RedisGate:
    """See `ports.Gate`."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._retention = int(retention.total_seconds() * 1000)

    def claim(self, *, job_id: str, run: int, attempt: int, execution: str, worker: str) -> Verdict:
        lasts = int(CLAIM_FOR.total_seconds() * 1000)
        try:
            answer = self._redis.eval(_CLAIM, 1, self._keys.claim(job_id), run, attempt, execution, worker, lasts)
        except (RedisError, OSError) as error:
            raise GateUnavailable(str(error)) from error
        return Verdict(answer.decode())

    def finish(self, *, job_id: str, run: int, attempt: int, absorbing: bool) -> None:
        try:
            self._redis.eval(_FINISH, 1, self._keys.claim(job_id), run, attempt, int(absorbing), self._retention)
        except (RedisError, OSError) as error:
            raise GateUnavailable(str(error)) from error
