"""Authenticates callers by API key, JSON Web Token or stream token, or not at all if the gateway is open."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from milepost_contracts.clock import now
from milepost_contracts.http.access import DEFAULT_TENANT, Issuer, Scope
from milepost_contracts.ids import Keyring
from milepost_contracts.values import TenantName
from milepost_gateway.errors import Forbidden, Unauthenticated
from milepost_gateway.ports.access_rules import AccessRules
from milepost_gateway.ports.token_verifier import TokenVerifier

OPEN_TENANT = DEFAULT_TENANT
STREAM_TOKEN_TTL = timedelta(minutes=15)
SCOPE_PREFIX = "milepost:"
_TENANTS: TypeAdapter[str] = TypeAdapter(TenantName)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The sender of a request, with its tenant and scopes."""

    tenant: str
    scopes: frozenset[Scope]
    #: For the log: the id of an API key, or the subject of a token.
    name: str

    def need(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the caller has this scope, or `admin`."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise Forbidden(scope)


ANYBODY = Caller(tenant=OPEN_TENANT, scopes=frozenset(Scope), name="anybody")


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """Authenticates callers, for one deployment."""

    rules: AccessRules
    tokens: TokenVerifier
    keyring: Keyring
    #: Whether callers need no API key or token.
    open: bool
    #: Opens the metrics alone.
    metrics_token: str | None = None

    async def caller(self, credential: str | None) -> Caller:
        """Return the caller with this API key or token.

        Raises:
            Unauthenticated: It is missing, unknown, revoked, expired or invalid.
            IssuerUnavailable: The token can't be verified now.
        """
        if self.open:
            return ANYBODY
        if credential is None:
            raise Unauthenticated("an API key or token is required, in the Authorization header")
        rules = self.rules.current()
        if (key := rules.key(credential)) is not None:
            return Caller(tenant=key.tenant, scopes=key.scopes, name=key.id)
        if rules.issuers and credential.count(".") == 2:  # noqa: PLR2004 - RFC 7519
            return _caller_of(*await self.tokens.verify(credential, rules.issuers))
        raise Unauthenticated("the API key is unknown, revoked or expired")

    async def metrics_reader(self, credential: str | None) -> Caller:
        """Return the caller with this metrics token, or as `caller`.

        Raises:
            Unauthenticated: It is neither; or the gateway is open, and has a metrics token that this is not.
            IssuerUnavailable: The token can't be verified now.
        """
        if self.metrics_token is not None:
            if hmac.compare_digest((credential or "").encode(), self.metrics_token.encode()):
                return Caller(tenant=OPEN_TENANT, scopes=frozenset({Scope.ADMIN}), name="metrics-token")
            if self.open:
                raise Unauthenticated("the metrics token is required, in the Authorization header")
        return await self.caller(credential)

    def issue_stream_token(self, caller: Caller, job_ids: Sequence[str]) -> tuple[str, datetime]:
        """Return a token that opens streams of these jobs, and when it expires."""
        until = now().replace(microsecond=0) + STREAM_TOKEN_TTL
        head = f"{int(until.timestamp())}.{caller.tenant}"
        return f"{head}.{self.keyring.seal(_sealed_text(head, job_ids))}", until

    def reader(self, token: str, job_ids: Sequence[str]) -> Caller:
        """Return the caller with this stream token for these jobs.

        Raises:
            Unauthenticated: It is not for these jobs, or has expired.
        """
        head, _, seal = token.rpartition(".")
        if not self.keyring.is_sealed(_sealed_text(head, job_ids), seal):
            raise Unauthenticated("the stream token is not valid for this stream")
        until, tenant = head.split(".")
        if datetime.fromtimestamp(int(until), UTC) < now():
            raise Unauthenticated("the stream token has expired; request a new one")
        return Caller(tenant=tenant, scopes=frozenset({Scope.READ}), name="stream-token")


def _sealed_text(head: str, job_ids: Sequence[str]) -> str:
    jobs = blake2b(pydantic_core.to_json(sorted(job_ids)), digest_size=16).hexdigest()
    return f"{head}.{jobs}"


def _caller_of(claims: dict[str, Any], issuer: Issuer) -> Caller:
    granted = claims.get("scope", "")
    if not isinstance(granted, str):
        raise Unauthenticated("the token's claim scope is not a string")
    named = {word.removeprefix(SCOPE_PREFIX) for word in granted.split()}
    try:
        tenant = _TENANTS.validate_python(claims.get(issuer.tenant_claim))
    except ValidationError:
        raise Unauthenticated(f"the token's claim {issuer.tenant_claim} is not a valid tenant name") from None
    if not issuer.may_name(tenant):
        raise Unauthenticated(
            f"the token's issuer may not name the tenant {tenant}; the access file lists those it may"
        )
    return Caller(
        tenant=tenant,
        scopes=frozenset(scope for scope in issuer.scopes if scope in named),
        name=str(claims.get("sub", "token"))[:100],
    )
