"""Handing the same job over twice makes one job: `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07).

The id of such a job follows from its key, and from the day. So a repeat makes no second job though Redis, where keys
are kept for a day, has forgotten them or is away: the same command twice is one job.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

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


@dataclass
class Turn:
    """One request with a key."""

    job_id: str
    #: Whether an earlier request has handed the job over.
    repeated: bool = False


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """Keeps the keys of one deployment."""

    keyring: Keyring
    keys: KeyStore
    retention: timedelta
    _period: timedelta = field(init=False)

    def __post_init__(self) -> None:
        # An id says when it was issued; one that is older than the retention time counts as expired.
        object.__setattr__(self, "_period", min(KEPT_FOR, self.retention / 4))

    @asynccontextmanager
    async def turn(self, tenant: str, key: str, fingerprint: str) -> AsyncIterator[Turn]:
        """Hold the key while the job is handed over, and keep it if that was successful, or may have been.

        Raises:
            KeyReused: It belongs to another request.
            KeyInFlight: Its first request is still being worked on.
        """
        use = Use(job_id=self._issue(tenant, key), fingerprint=fingerprint, accepted=False, at=now())
        try:
            earlier = await self.keys.claim(tenant, key, use, lasts=KEPT_FOR)
        except StoreUnavailable as error:
            log.warning("key_not_kept", error=str(error))
            yield Turn(use.job_id)
            return
        if earlier is not None:
            if earlier.fingerprint != fingerprint:
                raise KeyReused
            if not earlier.accepted and now() - earlier.at < IN_FLIGHT:
                raise KeyInFlight
            use = earlier
        turn = Turn(use.job_id, repeated=use.accepted)
        try:
            yield turn
        except OutcomeUnknown:
            raise  # a repeat hands the same job over
        except BaseException:
            await self._settle(tenant, key, None)
            raise
        if not turn.repeated:
            await self._settle(tenant, key, Use(turn.job_id, fingerprint, accepted=True, at=use.at))

    async def _settle(self, tenant: str, key: str, use: Use | None) -> None:
        try:
            await self.keys.settle(tenant, key, use, lasts=KEPT_FOR)
        except StoreUnavailable as error:
            log.warning("key_not_kept", error=str(error))

    def _issue(self, tenant: str, key: str) -> str:
        begun = EPOCH + (now() - EPOCH) // self._period * self._period
        return self.keyring.issue(tenant, at=begun, name=key)
