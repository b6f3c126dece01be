"""The access file, with API keys, token issuers and limits: gateways read it, `milepost keys` writes it.

An API key is `mp_<id>_<secret>`. The file has its SHA-256, which is enough for a secret of 256 random bits.
"""

import hmac
import ipaddress
import os
import re
import secrets
import tempfile
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from milepost_contracts.clock import now
from milepost_contracts.values import Moment, TenantName

DEFAULT_TENANT = "default"
"""The tenant of all jobs at an open gateway; its admins also see what belongs to no tenant."""
#: A tenant, or `*` for all others.
TenantPattern = TenantName | Annotated[str, Field(pattern=r"^\*$")]
_KEY = re.compile(r"mp_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """What a caller may do."""

    #: Get, list and stream the tenant's jobs.
    READ = "read"
    #: Submit, cancel and retry jobs.
    SUBMIT = "submit"
    #: All of that, and dead letters, deletion, webhook secrets and metrics.
    ADMIN = "admin"


class _Entry(BaseModel):
    """An entry of the file. People may edit it, so an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiKey(_Entry):
    """The entry of an API key."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    tenant: TenantName
    scopes: frozenset[Scope] = Field(min_length=1)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the complete key, in hex."""
    created_at: Moment
    expires_at: Moment | None = None
    """When it expires; nothing means never."""
    note: str | None = Field(default=None, max_length=200)
    """What it is for."""

    def fits(self, text: str, at: datetime) -> bool:
        """Whether this is the key, and it has not expired."""
        same = hmac.compare_digest(self.digest, sha256(text.encode()).hexdigest())
        return same and (self.expires_at is None or at < self.expires_at)


def _require_https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return url
    raise ValueError("it must begin with https://")


class Issuer(_Entry):
    """A trusted issuer of JSON Web Tokens."""

    issuer: str = Field(min_length=1)
    """The required value of the claim `iss`."""
    audience: str = Field(min_length=1)
    """A value that the claim `aud` must be or contain."""
    jwks_url: Annotated[str, AfterValidator(_require_https)]
    """The URL of the keys that verify them: a JSON Web Key Set (RFC 7517)."""
    tenant_claim: str = "tenant"
    """The claim that names the tenant."""
    tenants: frozenset[TenantPattern] = Field(min_length=1)
    """The tenants that its tokens may name; `*` is all but `default`, whose admins see what belongs to no tenant."""
    scopes: frozenset[Scope] = Field(min_length=1)
    """The scopes that its tokens may grant."""

    @model_validator(mode="before")
    @classmethod
    def _require_grants(cls, value: Any) -> Any:
        if isinstance(value, dict) and not {"tenants", "scopes"} <= value.keys():
            raise ValueError(
                'an issuer needs "tenants", a list of those that its tokens may name (or ["*"]: all but default), '
                'and "scopes", a list of those that they may grant'
            )
        return value

    def may_name(self, tenant: str) -> bool:
        """Whether its tokens may name this tenant."""
        return tenant in self.tenants or ("*" in self.tenants and tenant != DEFAULT_TENANT)


class Limits(_Entry):
    """The limits of a tenant; nothing means no limit."""

    jobs_per_second: float | None = Field(default=None, gt=0, le=100_000)
    """Submitted jobs per second, for each gateway process."""
    live_jobs: int | None = Field(default=None, ge=1)
    """Jobs that have not ended yet."""
    listeners: int = Field(default=2_000, ge=1)
    """Waiting requests and open streams, for each gateway process."""


class Access(_Entry):
    """The contents of the file."""

    keys: tuple[ApiKey, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    limits: dict[TenantPattern, Limits] = Field(default_factory=dict)
    """By tenant; `*` is for all others."""

    @field_validator("keys", "issuers")
    @classmethod
    def _check_unique(cls, entries: tuple[ApiKey | Issuer, ...]) -> tuple[ApiKey | Issuer, ...]:
        names = [f"key {one.id}" if isinstance(one, ApiKey) else f"issuer {one.issuer}" for one in entries]
        if twice := {one for one in names if names.count(one) > 1}:
            raise ValueError(f"the {min(twice)} is listed twice")
        return entries

    def key(self, text: str) -> ApiKey | None:
        """Return the entry of this API key; nothing if it is unknown or expired."""
        found = _KEY.fullmatch(text)
        if found is None:
            return None
        return next((key for key in self.keys if key.id == found[1] and key.fits(text, now())), None)

    def limits_of(self, tenant: str) -> Limits:
        """Return the limits of a tenant."""
        return self.limits.get(tenant) or self.limits.get("*") or Limits()

    def with_key(self, key: ApiKey) -> "Access":
        """Return a copy with this key added."""
        return self.model_copy(update={"keys": (*self.keys, key)})

    def without_key(self, key_id: str) -> "Access":
        """Return a copy without this key."""
        return self.model_copy(update={"keys": tuple(key for key in self.keys if key.id != key_id)})


def create_key(
    tenant: str, scopes: frozenset[Scope], *, expires_at: datetime | None = None, note: str | None = None
) -> tuple[str, ApiKey]:
    """Return a new API key: its text, which is stored nowhere, and its entry."""
    key_id = secrets.token_hex(6)
    text = f"mp_{key_id}_{secrets.token_urlsafe(32)}"
    digest = sha256(text.encode()).hexdigest()
    entry = ApiKey(
        id=key_id, tenant=tenant, scopes=scopes, digest=digest, created_at=now(), expires_at=expires_at, note=note
    )
    return text, entry


def read_access(path: Path) -> Access:
    """Read an access file.

    Raises:
        ValueError: It can't be read or is invalid; says where.
    """
    try:
        return Access.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where, message = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path} is invalid: {where}{': ' if where else ''}{message}") from None


def write_access(path: Path, access: Access) -> None:
    """Write an access file atomically; only its owner can read a new one."""
    old = path.stat() if path.exists() else None
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        new.write(access.model_dump_json(indent=2, exclude_defaults=True) + "\n")
    written = Path(new.name)
    if old is not None:
        with suppress(PermissionError):
            os.chown(written, old.st_uid, old.st_gid)
        written.chmod(old.st_mode & 0o777)
    written.replace(path)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
