"""JSON Web Tokens (RFC 7519), verified with the keys that their issuers publish (RFC 7517)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import jwt
import structlog
from jwt import PyJWK, PyJWKClient, PyJWKSet

from milepost_contracts.access import Issuer
from milepost_gateway.errors import IssuerUnavailable, Unauthenticated

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those with a public key: a shared secret would let every verifier issue."""
FRESH_FOR = 300.0
"""Seconds for which an issuer's keys are not asked for again."""
ASK_AGAIN_AFTER = 10.0
"""Seconds between two questions for a key that is not known: whoever invents one asks nobody for it."""
ANSWER_WITHIN = 3.0
LEEWAY = 30
"""Seconds by which clocks may differ."""


class PublishedKeys:
    """What one issuer publishes."""

    def __init__(self, issuer: Issuer) -> None:
        self._client = PyJWKClient(issuer.jwks_url, cache_jwk_set=False, timeout=ANSWER_WITHIN)
        self._keys: PyJWKSet | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def find(self, key_id: str | None) -> PyJWK | None:
        """Return the key of this id; nothing if there is none.

        Raises:
            IssuerUnavailable: The issuer does not answer, and has not before.
        """
        found = self._find(key_id)
        if self._age > FRESH_FOR or (found is None and (self._age > ASK_AGAIN_AFTER or self._asking.locked())):
            async with self._asking:
                if self._age > ASK_AGAIN_AFTER:
                    await self._ask()
            found = self._find(key_id)
        if self._keys is None:
            raise IssuerUnavailable
        return found

    @property
    def _age(self) -> float:
        return time.monotonic() - self._asked_at

    async def _ask(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._client.get_jwk_set)
        except (jwt.PyJWTError, ValueError) as error:
            log.warning("issuer_unavailable", error=str(error))
        finally:
            self._asked_at = time.monotonic()

    def _find(self, key_id: str | None) -> PyJWK | None:
        keys = [] if self._keys is None else self._keys.keys
        return next((key for key in keys if key.key_id == key_id), None)


class JsonWebTokens:
    """See `ports.Tokens`."""

    def __init__(self) -> None:
        self._published: dict[Issuer, PublishedKeys] = {}

    async def verify(self, token: str, issuers: Sequence[Issuer]) -> tuple[dict[str, Any], str]:
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated("the token can't be read") from error
        issuer = next((one for one in issuers if one.issuer == claimed), None)
        if issuer is None or header.get("alg") not in ALGORITHMS:
            raise Unauthenticated("the token is of an issuer or an algorithm that is not taken")
        key = await self._published.setdefault(issuer, PublishedKeys(issuer)).find(header.get("kid"))
        if key is None:
            raise Unauthenticated("the token's key is not one that its issuer publishes")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token does not count: {error}") from error
        return claims, issuer.tenant_claim
