"""What became of webhooks, in Redis."""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from milepost_contracts.envelope import now
from milepost_contracts.keys import Keys
from milepost_contracts.values import Job
from milepost_contracts.webhooks import LAST_DELIVERIES, RETRY_AFTER, WebhookTry
from milepost_tracker.ports import WebhookStory
from milepost_tracker.redis_calls import milliseconds, or_unavailable

DISABLED_FOR = timedelta(days=30)
"""How long a URL that has answered 410 is left alone."""
_LONGER = sum(RETRY_AFTER, timedelta(days=1))
"""Webhooks may be tried for longer than their job is remembered."""


class RedisWebhookLog:
    """See `ports.WebhookLog`."""

    def __init__(self, redis: Redis, keys: Keys, *, retention: timedelta) -> None:
        self._redis = redis
        self._keys = keys
        self._lasts = milliseconds(retention + _LONGER)

    async def story(self, job: Job) -> WebhookStory:
        with or_unavailable():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hmget(self._keys.job(job.id), "sequence", "gone")
                pipe.lrange(self._keys.webhooks(job.id), 0, -1)
                pipe.exists(self._disabled(job))
                (sequence, gone), tries, disabled = await pipe.execute()
        return WebhookStory(
            sequence=(sequence or b"").decode(),
            forgotten=int(gone or 0),
            disabled=bool(disabled),
            tries=tuple(tried for body in tries if (tried := _tried(body)) is not None),
        )

    async def record(self, job: Job, tried: WebhookTry) -> None:
        key = self._keys.webhooks(job.id)
        with or_unavailable():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(key, tried.model_dump_json(exclude_none=True))
                pipe.ltrim(key, -LAST_DELIVERIES, -1)
                pipe.pexpire(key, self._lasts)
                await pipe.execute()

    async def waits(self, name: str, until: datetime) -> None:
        with or_unavailable():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(self._keys.waiting, {name: until.timestamp()})
                pipe.zremrangebyscore(self._keys.waiting, "-inf", now().timestamp())
                pipe.pexpire(self._keys.waiting, milliseconds(_LONGER))
                await pipe.execute()

    async def disable(self, job: Job, *, disabled: bool) -> None:
        with or_unavailable():
            if disabled:
                await self._redis.set(self._disabled(job), b"410", ex=DISABLED_FOR)
            else:
                await self._redis.delete(self._disabled(job))

    def _disabled(self, job: Job) -> str:
        return self._keys.disabled(sha256(f"{job.tenant} {job.callback_url}".encode()).hexdigest())


def _tried(body: Any) -> WebhookTry | None:
    """Read a try; of a newer release it may be unreadable, and must not hide the rest."""
    try:
        return WebhookTry.model_validate_json(body)
    except ValidationError:
        return None
