"""Handing the same job over twice makes one job: `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07).

The id of such a job follows from its key, and from the day. So a repeat makes no second job though Redis, where keys
are kept for a day, has forgotten them or is away: the same command twice is one job.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import structlog

from milepost_contracts.envelope import now
from milepost_contracts.ids import Keyring
from milepost_gateway.errors import KeyInFlight, KeyReused, OutcomeUnknown, StoreUnavailable
from milepost_gateway.ports import KeyStore, Use

log = structlog.get_logger(__name__)

KEPT_FOR = timedelta(days=1)
IN_FLIGHT = timedelta(seconds=10)
"""How long a first request may take, before the next one counts as its repeat."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class Turn:
    """One request with a key."""

    job_id: str
    #: Whether an earlier request has handed the job over.
    repeated: bool
    #: What the request leaves for its repeats.
    note: str
    #: Returns an id that follows from the key, for whom it is and what it is for.
    derive: Callable[[str, str], str]

    def nth(self, tenant: str, number: int) -> str:
        """Return the id of one of the jobs of a request for many."""
        return self.derive(tenant, f"\0{number}")


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """Keeps the keys of one deployment."""

    keyring: Keyring
    keys: KeyStore
    retention: timedelta

    @property
    def _period(self) -> timedelta:
        """How long a key leads to the same id: an id that is older than the retention time counts as expired."""
        return min(KEPT_FOR, self.retention / 4)

    @property
    def _lasts(self) -> timedelta:
        return min(KEPT_FOR, self.retention)

    @asynccontextmanager
    async def turn(self, tenant: str, key: str, fingerprint: str) -> AsyncIterator[Turn]:
        """Hold the key while the job is handed over, and keep it if that was successful, or may have been.

        Raises:
            KeyReused: It belongs to another request.
            KeyInFlight: Its first request is still being worked on.
        """
        day = self._day()
        job_id = self.keyring.issue(tenant, at=day, name=key)
        use = Use(job_id=job_id, fingerprint=fingerprint, accepted=False, at=now(), nonce=token_hex(8))
        try:
            earlier = await self.keys.claim(tenant, key, use, lasts=self._lasts)
        except StoreUnavailable as error:
            log.warning("key_not_kept", error=str(error))
            yield self._turn(tenant, key, use)
            return
        if earlier is not None:
            if earlier.fingerprint != fingerprint:
                raise KeyReused
            if not earlier.accepted and abs(now() - earlier.at) < IN_FLIGHT:
                raise KeyInFlight
        turn = self._turn(tenant, key, earlier or use)
        try:
            yield turn
        except (OutcomeUnknown, asyncio.CancelledError):  # a repeat hands the same job over
            await self._try(self.keys.settle(tenant, key, replace(earlier or use, at=EPOCH), lasts=self._lasts))
            raise
        except BaseException:
            if earlier is None:  # else it may have been accepted before
                await self._try(self.keys.release(tenant, key, use))
            raise
        if not turn.repeated:
            accepted = replace(earlier or use, accepted=True, note=turn.note)
            await self._try(self.keys.settle(tenant, key, accepted, lasts=self._lasts))

    def _turn(self, tenant: str, key: str, use: Use) -> Turn:
        """Take time and signature of the first request's id: a repeat after midnight has the same ids."""
        issued = self.keyring.verify(use.job_id, tenant)

        def derive(whose: str, what: str) -> str:
            return self.keyring.issue(whose, at=issued.created_at, name=key + what, key=issued.key)

        return Turn(job_id=use.job_id, repeated=use.accepted, note=use.note, derive=derive)

    async def _try(self, write: Awaitable[None]) -> None:
        try:
            await write
        except StoreUnavailable as error:
            log.warning("key_not_kept", error=str(error))

    def _day(self) -> datetime:
        return EPOCH + (now() - EPOCH) // self._period * self._period
