"""Who may do what, and how much: the file that gateways read and `milepost keys` writes.

An API key is `mp_<id>_<secret>`. The file has the SHA-256 of the whole: enough for a secret of 256 random bits.
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
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from milepost_contracts.envelope import now
from milepost_contracts.values import Moment, TenantName

_KEY = re.compile(r"mp_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """What a caller may do."""

    #: Look at the tenant's jobs, list them and follow them.
    READ = "read"
    #: Hand jobs over, cancel them and run them again.
    SUBMIT = "submit"
    #: All of that, and the dead letters, and forgetting jobs.
    ADMIN = "admin"


class _Entry(BaseModel):
    """People write this file: what is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiKey(_Entry):
    """One key, as the file has it."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    tenant: TenantName
    scopes: frozenset[Scope] = Field(min_length=1)
    #: SHA-256 of the whole key, in hex.
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: Moment
    #: From then on it is refused; nothing means never.
    expires_at: Moment | None = None
    #: What it is for, for people.
    note: str | None = Field(default=None, max_length=200)

    def fits(self, text: str, at: datetime) -> bool:
        """Whether this is the key, and it has not expired."""
        same = hmac.compare_digest(self.digest, sha256(text.encode()).hexdigest())
        return same and (self.expires_at is None or at < self.expires_at)


def _safe(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return url
    raise ValueError("keys that verify tokens come over https")


class Issuer(_Entry):
    """Whose JSON Web Tokens are taken."""

    #: What the claim `iss` must be.
    issuer: str = Field(min_length=1)
    #: What the claim `aud` must be, or have.
    audience: str = Field(min_length=1)
    #: Where the keys are that verify them: a JSON Web Key Set (RFC 7517).
    jwks_url: Annotated[str, AfterValidator(_safe)]
    #: The claim that names the tenant.
    tenant_claim: str = "tenant"


class Limits(_Entry):
    """How much a tenant may ask for; nothing means as much as it likes."""

    #: Jobs handed over, on average over a second, to each gateway process.
    jobs_per_second: float | None = Field(default=None, gt=0, le=100_000)
    #: Jobs that have not ended yet.
    live_jobs: int | None = Field(default=None, ge=1)
    #: Requests that wait and streams that are open, at each gateway process.
    listeners: int = Field(default=2_000, ge=1)


class Access(_Entry):
    """The whole file."""

    keys: tuple[ApiKey, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    #: By tenant; `*` is for those that are not named.
    limits: dict[TenantName | Annotated[str, Field(pattern=r"^\*$")], Limits] = Field(default_factory=dict)

    @field_validator("keys")
    @classmethod
    def _each_once(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        ids = [key.id for key in keys]
        if twice := {one for one in ids if ids.count(one) > 1}:
            raise ValueError(f"the key {min(twice)} is there twice")
        return keys

    def key(self, text: str) -> ApiKey | None:
        """Return what is known of this key, unless it is wrong or expired."""
        found = _KEY.fullmatch(text)
        if found is None:
            return None
        return next((key for key in self.keys if key.id == found[1] and key.fits(text, now())), None)

    def limits_of(self, tenant: str) -> Limits:
        """Return what holds for a tenant."""
        return self.limits.get(tenant) or self.limits.get("*") or Limits()

    def with_key(self, key: ApiKey) -> "Access":
        """Return this with one key more."""
        return self.model_copy(update={"keys": (*self.keys, key)})

    def without_key(self, key_id: str) -> "Access":
        """Return this without a key."""
        return self.model_copy(update={"keys": tuple(key for key in self.keys if key.id != key_id)})


def create_key(
    tenant: str, scopes: frozenset[Scope], *, expires_at: datetime | None = None, note: str | None = None
) -> tuple[str, ApiKey]:
    """Make a new key: its text, which nobody can read again, and its entry."""
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
        ValueError: It can't be read, or does not fit; says where.
    """
    try:
        return Access.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path} does not fit: {where}{': ' if where else ''}{first['msg']}") from None


def write_access(path: Path, access: Access) -> None:
    """Write an access file, whole or not at all; a new one can be read by its owner alone."""
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
    """Whether only this machine is meant by a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
