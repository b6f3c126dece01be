"""The deliveries of webhooks, in Redis."""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.clock import now
from milepost_contracts.http.webhooks import MAX_TRIES_KEPT, RETRY_DELAYS, WebhookTry
from milepost_contracts.status.redis_keys import Keys
from milepost_contracts.values import Job
from milepost_redis.calls import execute, milliseconds, raising
from milepost_redis.parsing import parse_known
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports.webhook_log import WebhookState

DISABLED_FOR = timedelta(days=30)
"""How long a URL that has answered 410 gets no webhooks."""
_RETRY_PERIOD = sum(RETRY_DELAYS, timedelta(days=1))
"""Webhooks may be tried for longer than their job is remembered."""


class RedisWebhookLog:
    """Implements `ports.webhook_log.WebhookLog`."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._lasts = milliseconds(retention + _RETRY_PERIOD)

    async def state(self, job: Job) -> WebhookState:
        def fill(pipe: Any) -> None:
            pipe.hmget(self._keys.job(job.id), "sequence", "deleted")
            pipe.lrange(self._keys.webhooks(job.id), 0, -1)
            pipe.exists(self._disabled(job))

        with raising(StoreUnavailable):
            (sequence, deleted), tries, disabled = await execute(self._redis, fill)
        return WebhookState(
            sequence=(sequence or b"").decode(),
            deleted_run=int(deleted or 0),
            disabled=bool(disabled),
            tries=tuple(parse_known(WebhookTry, tries)),
        )

    async def record(self, job: Job, tried: WebhookTry) -> None:
        key = self._keys.webhooks(job.id)

        def fill(pipe: Any) -> None:
            pipe.rpush(key, tried.model_dump_json(exclude_none=True))
            pipe.ltrim(key, -MAX_TRIES_KEPT, -1)
            pipe.pexpire(key, self._lasts)

        with raising(StoreUnavailable):
            await execute(self._redis, fill)

    async def record_wait(self, name: str, until: datetime) -> None:
        def fill(pipe: Any) -> None:
            pipe.zadd(self._keys.waiting, {name: until.timestamp()})
            pipe.zremrangebyscore(self._keys.waiting, "-inf", now().timestamp())
            pipe.pexpire(self._keys.waiting, milliseconds(_RETRY_PERIOD))

        with raising(StoreUnavailable):
            await execute(self._redis, fill)

    async def disable(self, job: Job, *, disabled: bool) -> None:
        with raising(StoreUnavailable):
            if disabled:
                await self._redis.set(self._disabled(job), b"410", ex=DISABLED_FOR)
            else:
                await self._redis.delete(self._disabled(job))

    def _disabled(self, job: Job) -> str:
        return self._keys.disabled(sha256(f"{job.tenant} {job.callback_url}".encode()).hexdigest())
