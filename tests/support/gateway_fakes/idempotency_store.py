"""Idempotency records in memory."""

from milepost_gateway.errors import StoreUnavailable
from milepost_gateway.ports.idempotency_store import IdempotencyRecord


class FakeIdempotencyStore:
    def __init__(self):
        self.records: dict[tuple[str, str], IdempotencyRecord] = {}
        self.away = False

    async def claim(self, tenant, key, record, *, lasts):
        self._check()
        earlier = self.records.get((tenant, key))
        self.records.setdefault((tenant, key), record)
        return earlier

    async def replace(self, tenant, key, record, *, lasts):
        self._check()
        self.records[tenant, key] = record

    async def release(self, tenant, key, record):
        self._check()
        if self.records.get((tenant, key)) == record:
            del self.records[tenant, key]

    def _check(self):
        if self.away:
            raise StoreUnavailable("away")
