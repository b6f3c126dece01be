"""What Idempotency-Keys were used for."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True)
class IdempotencyRecord:
    """What an Idempotency-Key was used for."""

    job_id: str
    #: A digest of the request, or a MAC of it.
    fingerprint: str
    #: Whether the job was accepted; otherwise a request is being handled, or has failed in between.
    accepted: bool
    #: When the first request began.
    at: datetime
    #: Tells a request from a repeat of it.
    nonce: str
    #: What the first request leaves for its repeats: the id of a batch.
    note: str = ""


class IdempotencyStore(Protocol):
    """The records of Idempotency-Keys. Every call may raise `StoreUnavailable`."""

    async def claim(
        self, tenant: str, key: str, record: IdempotencyRecord, *, lasts: timedelta
    ) -> IdempotencyRecord | None:
        """Store the record if the key has none; return the record that it has already."""

    async def replace(self, tenant: str, key: str, record: IdempotencyRecord, *, lasts: timedelta) -> None:
        """Store the record in place of the one the key has."""

    async def release(self, tenant: str, key: str, record: IdempotencyRecord) -> None:
        """Remove the record of the key, if it is this one."""
