"""Idempotent submission by `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07).

The job's id is derived from the key and the period: a day, or a quarter of the retention if that is shorter. So a
repeat makes no second job even if Redis, which stores the keys for up to a day, has lost them or is down.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import structlog

from milepost_contracts.clock import now
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import Keyring
from milepost_gateway.errors import KeyInFlight, KeyReused, NotAccepted, OutcomeUnknown, StoreUnavailable
from milepost_gateway.ports.idempotency_store import IdempotencyRecord, IdempotencyStore

log = structlog.get_logger(__name__)

MAX_KEY_TTL = timedelta(days=1)
IN_FLIGHT_TIMEOUT = timedelta(seconds=10)
"""How long a first request may take: after that, the next one with its key is handled."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class IdempotencyClaim:
    """A request's hold on its key."""

    job_id: str
    #: Whether the job of an earlier request was accepted.
    repeated: bool
    #: A note for repeats of the request: the id of a batch.
    note: str
    #: Derives an id from the key, for an owner and a name.
    derive: Callable[[str, str], str]

    def nth(self, tenant: str, number: int) -> str:
        """Return the id of a batch's job by its number."""
        return self.derive(tenant, f"\0{number}")


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """Claims Idempotency-Keys, for one deployment."""

    keyring: Keyring
    store: IdempotencyStore
    retention: timedelta

    @property
    def _period(self) -> timedelta:
        """How long a key gives the same id; short of the retention, because an older id counts as expired."""
        return min(MAX_KEY_TTL, self.retention / 4)

    @property
    def _ttl(self) -> timedelta:
        return min(MAX_KEY_TTL, self.retention)

    @asynccontextmanager
    async def claim(
        self, tenant: str, key: str, fingerprint: str, *, has_secrets: bool = True
    ) -> AsyncIterator[IdempotencyClaim]:
        """Hold the key while the job is submitted; keep it if the job was accepted, or may have been.

        Of a request that may have secrets, a MAC is stored: from a plain digest, a short secret could be guessed.

        Raises:
            KeyReused: The key belongs to another request.
            KeyInFlight: The first request with this key is still being handled.
            NotAccepted: Another gateway has the key, and signs ids with an id key that this one does not have.
        """
        period_start = self._period_start()
        job_id = self.keyring.issue(tenant, at=period_start, name=key)
        stored = self.keyring.seal(fingerprint) if has_secrets else fingerprint
        record = IdempotencyRecord(job_id=job_id, fingerprint=stored, accepted=False, at=now(), nonce=token_hex(8))
        try:
            earlier = await self.store.claim(tenant, key, record, lasts=self._ttl)
        except StoreUnavailable as error:
            log.warning("idempotency_key_not_stored", error=str(error))
            yield self._claim(tenant, key, record)
            return
        try:
            claim = self._claim(tenant, key, earlier or record)
        except UnknownJobId as error:
            raise NotAccepted("another gateway signs ids with a key that this gateway does not have") from error
        if earlier is not None:
            if earlier.fingerprint != fingerprint and not self.keyring.is_sealed(fingerprint, earlier.fingerprint):
                raise KeyReused
            if not earlier.accepted and abs(now() - earlier.at) < IN_FLIGHT_TIMEOUT:
                raise KeyInFlight
        try:
            yield claim
        except (OutcomeUnknown, asyncio.CancelledError):  # let a repeat submit the same job at once
            await self._try(self.store.replace(tenant, key, replace(earlier or record, at=EPOCH), lasts=self._ttl))
            raise
        except BaseException:
            if earlier is None:  # else the job may have been accepted before
                await self._try(self.store.release(tenant, key, record))
            raise
        if not claim.repeated:
            accepted = replace(earlier or record, accepted=True, note=claim.note)
            await self._try(self.store.replace(tenant, key, accepted, lasts=self._ttl))

    def _claim(self, tenant: str, key: str, record: IdempotencyRecord) -> IdempotencyClaim:
        """Derive ids with the time and signing key of the first request's id, so that a later repeat gets the same."""
        issued = self.keyring.verify(record.job_id, tenant)

        def derive(owner: str, what: str) -> str:
            return self.keyring.issue(owner, at=issued.created_at, name=key + what, key=issued.key)

        return IdempotencyClaim(job_id=record.job_id, repeated=record.accepted, note=record.note, derive=derive)

    async def _try(self, write: Awaitable[None]) -> None:
        try:
            await write
        except StoreUnavailable as error:
            log.warning("idempotency_key_not_stored", error=str(error))

    def _period_start(self) -> datetime:
        return EPOCH + (now() - EPOCH) // self._period * self._period
