"""JSON Web Tokens."""

from collections.abc import Sequence
from typing import Any, Protocol

from milepost_contracts.http.access import Issuer


class TokenVerifier(Protocol):
    """Verifies tokens with the keys that their issuers publish."""

    async def verify(self, token: str, issuers: Sequence[Issuer]) -> tuple[dict[str, Any], str]:
        """Return a token's claims, and the name of the claim that names the tenant.

        Raises:
            Unauthenticated: It is not a valid token of any of these issuers.
            IssuerUnavailable: The issuer's keys can't be read now.
        """
