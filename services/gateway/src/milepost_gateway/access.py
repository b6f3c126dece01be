"""Who asks, and what they may: an API key, a JSON Web Token, a stream token; or anybody, where the gateway is open."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from milepost_contracts.access import Scope
from milepost_contracts.envelope import now
from milepost_contracts.ids import Keyring
from milepost_contracts.values import TenantName
from milepost_gateway.errors import Forbidden, Unauthenticated
from milepost_gateway.ports import Rules, Tokens

OPEN_TENANT = "default"
"""Whose jobs they are where nobody has to say who they are; its admins see what belongs to no tenant."""
STREAM_TOKEN_LASTS = timedelta(minutes=15)
SCOPE_PREFIX = "milepost:"
_TENANTS: TypeAdapter[str] = TypeAdapter(TenantName)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody who asks."""

    tenant: str
    scopes: frozenset[Scope]
    #: For the log: a key's id, or whom a token is about.
    name: str

    def need(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the caller may do this."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise Forbidden(scope)


ANYBODY = Caller(tenant=OPEN_TENANT, scopes=frozenset(Scope), name="anybody")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Tells callers apart, for one deployment."""

    rules: Rules
    tokens: Tokens
    keyring: Keyring
    #: Whether nobody has to say who they are.
    open: bool

    async def caller(self, credential: str | None) -> Caller:
        """Return who has this key or token.

        Raises:
            Unauthenticated: Nobody has, or it does not count any more.
            IssuerUnavailable: Whether the token is good can't be told now.
        """
        if self.open:
            return ANYBODY
        if credential is None:
            raise Unauthenticated("give an API key or a token: Authorization: Bearer …")
        rules = self.rules.current()
        if (key := rules.key(credential)) is not None:
            return Caller(tenant=key.tenant, scopes=key.scopes, name=key.id)
        if rules.issuers and credential.count(".") == 2:  # noqa: PLR2004 - RFC 7519
            return _caller_of(*await self.tokens.verify(credential, rules.issuers))
        raise Unauthenticated("this API key is not known, was revoked or has expired")

    def issue_stream_token(self, caller: Caller, job_ids: Sequence[str]) -> tuple[str, datetime]:
        """Return a token that opens streams of these jobs, for a while, and until when."""
        until = now().replace(microsecond=0) + STREAM_TOKEN_LASTS
        head = f"{int(until.timestamp())}.{caller.tenant}"
        return f"{head}.{self.keyring.seal(_what(head, job_ids))}", until

    def reader(self, token: str, job_ids: Sequence[str]) -> Caller:
        """Return who may read streams of these jobs with this token.

        Raises:
            Unauthenticated: It is not for these jobs, or its time is over.
        """
        head, _, seal = token.rpartition(".")
        if not self.keyring.sealed(_what(head, job_ids), seal):
            raise Unauthenticated("this stream token is not for that")
        until, tenant = head.split(".")
        if datetime.fromtimestamp(int(until), UTC) < now():
            raise Unauthenticated("the stream token's time is over: ask for a new one")
        return Caller(tenant=tenant, scopes=frozenset({Scope.READ}), name="stream-token")


def _what(head: str, job_ids: Sequence[str]) -> str:
    jobs = blake2b(pydantic_core.to_json(sorted(job_ids)), digest_size=16).hexdigest()
    return f"{head}.{jobs}"


def _caller_of(claims: dict[str, Any], tenant_claim: str) -> Caller:
    granted = claims.get("scope", "")
    if not isinstance(granted, str):
        raise Unauthenticated("the token's claim scope is no text")
    named = {word.removeprefix(SCOPE_PREFIX) for word in granted.split()}
    try:
        tenant = _TENANTS.validate_python(claims.get(tenant_claim))
    except ValidationError:
        raise Unauthenticated(f"the token's claim {tenant_claim} names no tenant") from None
    return Caller(
        tenant=tenant,
        scopes=frozenset(scope for scope in Scope if scope in named),
        name=str(claims.get("sub", "token"))[:100],
    )
