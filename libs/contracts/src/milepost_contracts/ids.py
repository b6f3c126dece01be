"""Job ids that certify themselves (law 2): any gateway tells an issued id from an invented one without a look-up.

An id is 25 bytes in 40 lower-case base32hex characters (RFC 4648 §7, which sorts as its bytes do):

    UUIDv7 (16: milliseconds since 1970, version, random) · key number (1) · MAC (8)

The MAC is keyed BLAKE2b over UUID, key number and tenant. An id of another tenant, of another deployment's key,
or with a flipped bit is simply unknown. Keys rotate: the first one signs, all of them verify.
"""

import base64
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b

from milepost_contracts.errors import UnknownJobId, WeakKeyring

MIN_SECRET = 16
"""The fewest bytes of a signing secret."""

_CANONICAL = re.compile(r"[0-9a-v]{40}")
_UUID, _KEY, _MAC = 16, 1, 8


@dataclass(frozen=True, kw_only=True)
class IssuedId:
    """What a verified id says by itself."""

    job_id: str
    #: Which key has signed it.
    key: int
    #: When the id was issued, to the millisecond, by the issuing gateway's clock.
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    #: 0 to 255; stands in the id, so that a verifier knows which key to try.
    number: int
    secret: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 255:  # noqa: PLR2004 - one byte
            raise WeakKeyring(f"key number {self.number} is not within 0 to 255")

    @classmethod
    def parse_all(cls, text: str) -> "list[SigningKey]":
        """Read `NUMBER:HEX[,NUMBER:HEX…]`.

        Raises:
            WeakKeyring: It is not written so, or says a number twice.
        """
        keys = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            number, _, secret = part.partition(":")
            try:
                keys.append(cls(number=int(number), secret=bytes.fromhex(secret)))
            except ValueError:
                raise WeakKeyring("a key is written NUMBER:HEX, for example 1:00112233…") from None
        if text and not keys:
            raise WeakKeyring("there is no key in it")
        if len({key.number for key in keys}) < len(keys):
            raise WeakKeyring("two keys have the same number")
        return keys


class Keyring:
    """Issues job ids with its first key and verifies them with any of its keys."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        if not keys:
            raise WeakKeyring("no id key is given")
        for key in keys:
            if not MIN_SECRET <= len(key.secret) <= blake2b.MAX_KEY_SIZE:
                raise WeakKeyring(
                    f"the secret of id key {key.number} has {len(key.secret)} bytes; "
                    f"it needs {MIN_SECRET} to {blake2b.MAX_KEY_SIZE}"
                )
        self._signing = keys[0]
        self._secrets = {key.number: key.secret for key in keys}
        #: Who polls asks for the same ids again and again.
        self._verified = lru_cache(maxsize=10_000)(self._verify)

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Read `NUMBER:HEX[,NUMBER:HEX…]`; the first key signs, the others only verify."""
        return cls(SigningKey.parse_all(text))

    def issue(self, tenant: str, *, at: datetime | None = None, name: str | None = None, key: int | None = None) -> str:
        """Return a fresh id of this tenant, or the one that follows from a name and a time.

        Args:
            tenant: Whose it is.
            at: When it counts as issued; now by default.
            name: What the id is to follow from, with `at`, in place of chance.
            key: Which key is to sign, if it is still there; the first one by default.
        """
        number = self._signing.number if key is None or key not in self._secrets else key
        secret = self._secrets[number]
        milliseconds = int(at.timestamp() * 1000) if at else time.time_ns() // 1_000_000
        chance = secrets.token_bytes(10) if name is None else _derived(secret, tenant, name)
        uuid = bytearray(milliseconds.to_bytes(6, "big") + chance)
        uuid[6] = 0x70 | uuid[6] & 0x0F
        uuid[8] = 0x80 | uuid[8] & 0x3F
        signed = bytes(uuid) + bytes([number])
        mac = _mac(secret, signed, tenant)
        return base64.b32hexencode(signed + mac).decode().lower()

    def verify(self, job_id: str, tenant: str) -> IssuedId:
        """Return what the id says.

        Raises:
            UnknownJobId: This deployment never issued the id to this tenant.
        """
        return self._verified(job_id, tenant)

    def _verify(self, job_id: str, tenant: str) -> IssuedId:
        if not looks_like_an_id(job_id):
            raise UnknownJobId
        raw = int(job_id, 32).to_bytes(_UUID + _KEY + _MAC, "big")
        signed, mac = raw[: _UUID + _KEY], raw[_UUID + _KEY :]
        secret = self._secrets.get(signed[_UUID])
        if secret is None or not hmac.compare_digest(mac, _mac(secret, signed, tenant)):
            raise UnknownJobId
        milliseconds = int.from_bytes(signed[:6], "big")
        return IssuedId(job_id=job_id, key=signed[_UUID], created_at=datetime.fromtimestamp(milliseconds / 1000, UTC))

    def seal(self, text: str) -> str:
        """Return what proves that this deployment wrote a text."""
        return f"{self._signing.number}-{_seal(self._signing.secret, text)}"

    def sealed(self, text: str, seal: str) -> bool:
        """Whether the seal proves it."""
        number, _, mac = seal.partition("-")
        secret = self._secrets.get(int(number)) if number.isdecimal() and len(number) < 4 else None  # noqa: PLR2004
        return secret is not None and mac.isascii() and hmac.compare_digest(mac, _seal(secret, text))


def looks_like_an_id(text: str) -> bool:
    """Whether it is written as job ids are."""
    return _CANONICAL.fullmatch(text) is not None


def claimed_time(job_id: str) -> datetime | None:
    """Return when an id says that it was issued, whoever issued it; nothing if it is no id."""
    if not looks_like_an_id(job_id):
        return None
    milliseconds = int(job_id, 32) >> 8 * (_UUID + _KEY + _MAC - 6)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError):
        return None


def _seal(secret: bytes, text: str) -> str:
    return blake2b(text.encode(), key=secret, digest_size=20, person=b"milepost-seal").hexdigest()


def _derived(secret: bytes, tenant: str, name: str) -> bytes:
    text = f"{len(tenant)}:{tenant}{name}".encode()
    return blake2b(text, key=secret, digest_size=10, person=b"milepost-id-name").digest()


def _mac(secret: bytes, signed: bytes, tenant: str) -> bytes:
    return blake2b(signed + tenant.encode(), key=secret, digest_size=_MAC, person=b"milepost-job-id").digest()
