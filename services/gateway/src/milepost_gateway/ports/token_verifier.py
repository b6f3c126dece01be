"""JSON Web Tokens."""

from collections.abc import Sequence
from typing import Any, Protocol

from milepost_contracts.http.access import Issuer


class TokenVerifier(Protocol):
    """Verifies tokens with the keys that their issuers publish."""

    async def verify(self, token: str, issuers: Sequence[Issuer]) -> tuple[dict[str, Any], Issuer]:
        """Return a token's claims, and its issuer.

        Raises:
            Unauthenticated: It is not a valid token of any of these issuers.
            IssuerUnavailable: The issuer's keys can't be read now.
        """
