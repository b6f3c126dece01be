"""Self-certifying job ids (law 2): any gateway recognizes an issued id without a look-up.

An id is 25 bytes in 40 lower-case base32hex characters (RFC 4648 §7, which sorts as its bytes do):

    UUIDv7 (16: milliseconds since 1970, version, random) · key number (1) · MAC (8)

The MAC is keyed BLAKE2b over UUID, key number and tenant. An id of another tenant, of another deployment's key,
or with a flipped bit is unknown. The first key signs, all of them verify. Keys rotate in steps: a new key is added at
the end everywhere, before it is moved to the front anywhere; an old one is removed when its last ids have expired.
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
"""The minimum length of a signing secret, in bytes."""

SEAL, GRANT = b"milepost-seal", b"milepost-grant"
"""What a MAC is made for: one made for another purpose is not valid."""

_CANONICAL = re.compile(r"[0-9a-v]{40}")
_UUID, _KEY, _MAC = 16, 1, 8


@dataclass(frozen=True, kw_only=True)
class IssuedId:
    """The contents of a verified id."""

    job_id: str
    #: The number of the key that signed it.
    key: int
    #: When the id was issued, to the millisecond, by the issuing gateway's clock.
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    #: 0 to 255. It is part of the id, so that a verifier knows which key to use.
    number: int
    secret: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 255:  # noqa: PLR2004 - one byte
            raise WeakKeyring(f"key number {self.number} is not within 0 to 255")

    @classmethod
    def parse_all(cls, text: str) -> "list[SigningKey]":
        """Read `NUMBER:HEX[,NUMBER:HEX…]`.

        Raises:
            WeakKeyring: The text has another form, a number occurs twice, or a secret is all zeros.
        """
        keys = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            number, _, secret = part.partition(":")
            try:
                keys.append(cls(number=int(number), secret=bytes.fromhex(secret)))
            except ValueError:
                raise WeakKeyring("write a key as NUMBER:HEX, for example 1:00112233…") from None
        if zero := [key.number for key in keys if key.secret and not any(key.secret)]:
            raise WeakKeyring(f"key {zero[0]} is all zeros, which is no secret: make a random one")
        if text and not keys:
            raise WeakKeyring("it contains no key")
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
        #: Clients that poll repeat the same ids.
        self._verified = lru_cache(maxsize=10_000)(self._verify)

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Read `NUMBER:HEX[,NUMBER:HEX…]`; the first key signs, the others only verify."""
        return cls(SigningKey.parse_all(text))

    def issue(self, tenant: str, *, at: datetime | None = None, name: str | None = None, key: int | None = None) -> str:
        """Return a new random id of this tenant, or the id that is derived from a name and a time.

        Args:
            tenant: The tenant that the job belongs to.
            at: The time of issue in the id; now by default.
            name: If given, the id is derived from it and `at`, not from random bytes.
            key: The number of the key that signs, if it still exists; the first key by default.
        """
        number = self._signing.number if key is None or key not in self._secrets else key
        secret = self._secrets[number]
        milliseconds = int(at.timestamp() * 1000) if at else time.time_ns() // 1_000_000
        entropy = secrets.token_bytes(10) if name is None else _derived(secret, tenant, name)
        uuid = bytearray(milliseconds.to_bytes(6, "big") + entropy)
        uuid[6] = 0x70 | uuid[6] & 0x0F
        uuid[8] = 0x80 | uuid[8] & 0x3F
        signed = bytes(uuid) + bytes([number])
        mac = _mac(secret, signed, tenant)
        return base64.b32hexencode(signed + mac).decode().lower()

    def verify(self, job_id: str, tenant: str) -> IssuedId:
        """Return the contents of the id.

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

    def seal(self, text: str, purpose: bytes = SEAL) -> str:
        """Return a MAC that proves that this deployment wrote a text for this purpose."""
        return f"{self._signing.number}-{_seal(self._signing.secret, text, purpose)}"

    def is_sealed(self, text: str, seal: str, purpose: bytes = SEAL) -> bool:
        """Whether the seal is a MAC of the text for this purpose by one of these keys."""
        number, _, mac = seal.partition("-")
        secret = self._secrets.get(int(number)) if number.isdecimal() and len(number) < 4 else None  # noqa: PLR2004
        return secret is not None and mac.isascii() and hmac.compare_digest(mac, _seal(secret, text, purpose))


def looks_like_an_id(text: str) -> bool:
    """Whether the text has the form of a job id."""
    return _CANONICAL.fullmatch(text) is not None


def unverified_time(job_id: str) -> datetime | None:
    """Return the time of issue in an id without verifying it; `None` if the text is not an id."""
    if not looks_like_an_id(job_id):
        return None
    milliseconds = int(job_id, 32) >> 8 * (_UUID + _KEY + _MAC - 6)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError):
        return None


def _seal(secret: bytes, text: str, purpose: bytes) -> str:
    return blake2b(text.encode(), key=secret, digest_size=20, person=purpose).hexdigest()


def _derived(secret: bytes, tenant: str, name: str) -> bytes:
    text = f"{len(tenant)}:{tenant}{name}".encode()
    return blake2b(text, key=secret, digest_size=10, person=b"milepost-id-name").digest()


def _mac(secret: bytes, signed: bytes, tenant: str) -> bytes:
    return blake2b(signed + tenant.encode(), key=secret, digest_size=_MAC, person=b"milepost-job-id").digest()
