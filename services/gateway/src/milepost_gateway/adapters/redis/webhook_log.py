"""The deliveries of webhooks in Redis, read only."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from milepost_contracts.http.webhooks import WebhookTry
from milepost_contracts.status.redis_keys import Keys
from milepost_gateway.errors import StoreUnavailable
from milepost_redis.calls import raising
from milepost_redis.parsing import parse_known


class RedisWebhookLog:
    """Implements `ports.webhook_log.WebhookLog`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def tries(self, job_id: str) -> Sequence[WebhookTry]:
        with raising(StoreUnavailable):
            bodies: list[Any] = await self._redis.lrange(self._keys.webhooks(job_id), 0, -1)
        return parse_known(WebhookTry, bodies)
