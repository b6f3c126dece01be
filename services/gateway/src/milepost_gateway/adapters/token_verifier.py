"""JSON Web Tokens (RFC 7519), verified with the keys that their issuers publish (RFC 7517)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import jwt
import structlog
from jwt import PyJWK, PyJWKClient, PyJWKSet

from milepost_contracts.http.access import Issuer
from milepost_gateway.errors import IssuerUnavailable, Unauthenticated

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Only those with a public key: with a shared secret every verifier could issue tokens."""
KEYS_TTL = 300.0
"""Seconds for which an issuer's keys are cached."""
MIN_REFRESH_INTERVAL = 10.0
"""Seconds between two requests for an issuer's keys: made-up key ids must not cause one each."""
ISSUER_TIMEOUT = 3.0
LEEWAY = 30
"""Seconds by which clocks may differ."""


class _PublishedKeys:
    """The keys that one issuer publishes."""

    def __init__(self, issuer: Issuer) -> None:
        self._client = PyJWKClient(issuer.jwks_url, cache_jwk_set=False, timeout=ISSUER_TIMEOUT)
        self._keys: PyJWKSet | None = None
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> PyJWK | None:
        """Return the key of this id; nothing if there is none.

        Raises:
            IssuerUnavailable: The issuer's keys were never read, and can't be read now.
        """
        found = self._find(key_id)
        if self._age > KEYS_TTL or (found is None and (self._age > MIN_REFRESH_INTERVAL or self._fetching.locked())):
            async with self._fetching:
                if self._age > MIN_REFRESH_INTERVAL:
                    await self._fetch()
            found = self._find(key_id)
        if self._keys is None:
            raise IssuerUnavailable
        return found

    @property
    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _fetch(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._client.get_jwk_set)
        except (jwt.PyJWTError, ValueError) as error:
            log.warning("issuer_unavailable", error=str(error))
        finally:
            self._fetched_at = time.monotonic()

    def _find(self, key_id: str | None) -> PyJWK | None:
        keys = [] if self._keys is None else self._keys.keys
        return next((key for key in keys if key.key_id == key_id), None)


class JwtVerifier:
    """Implements `ports.token_verifier.TokenVerifier`."""

    def __init__(self) -> None:
        self._published: dict[Issuer, _PublishedKeys] = {}

    async def verify(self, token: str, issuers: Sequence[Issuer]) -> tuple[dict[str, Any], Issuer]:
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated("the token is malformed") from error
        issuer = next((one for one in issuers if one.issuer == claimed), None)
        if issuer is None or header.get("alg") not in ALGORITHMS:
            raise Unauthenticated("the token's issuer or algorithm is not trusted")
        key = await self._published.setdefault(issuer, _PublishedKeys(issuer)).find(header.get("kid"))
        if key is None:
            raise Unauthenticated("the token's issuer does not publish its key")
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
            raise Unauthenticated(f"the token is invalid: {error}") from error
        return claims, issuer
