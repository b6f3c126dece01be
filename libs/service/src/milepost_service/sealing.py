"""Seals the secret params of jobs: AES-256-GCM, with a key for each job that follows from a key of the deployment.

The text is `NUMBER.BASE64`: the number of the deployment's key, and nonce (12 bytes), ciphertext and tag (16) in
base64url without padding. It holds the secrets as a JSON object, by their pointers, and is authenticated together with
the job's id, tenant, type and shown params. So it opens for this job alone, and every secret stays in its place.

The first key seals, all of them open. Keys rotate as those of the ids do, but processors need each new one first.
"""

import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from typing import Annotated

import pydantic_core
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import AfterValidator, JsonValue, SecretStr

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.ids import SigningKey
from milepost_contracts.secret_params import Secrets, join
from milepost_contracts.values import Job

SEAL_KEYS = "MILEPOST_SEAL_KEYS"
KEY_SIZE = 32
_NONCE, _TAG = 12, 16


class CannotOpen(Exception):  # noqa: N818 - named as the condition
    """The secret params can't be opened."""


class Sealer:
    """Seals and opens the secret params of one deployment's jobs. Without keys it can do neither."""

    def __init__(self, keys: Sequence[SigningKey] = ()) -> None:
        for key in keys:
            if len(key.secret) != KEY_SIZE:
                raise WeakKeyring(f"the secret of key {key.number} has {len(key.secret)} bytes; it needs {KEY_SIZE}")
        self._keys = tuple(keys)
        self._secrets = {str(key.number): key.secret for key in keys}

    @classmethod
    def parse(cls, text: str) -> "Sealer":
        """Read `NUMBER:HEX[,NUMBER:HEX…]`.

        Raises:
            WeakKeyring: It has another form, or a key has another length than 32 bytes.
        """
        return cls(SigningKey.parse_all(text))

    @property
    def has_keys(self) -> bool:
        return bool(self._keys)

    def size(self, secrets: Secrets) -> int:
        """Return how many bytes these secrets take sealed."""
        sealed = _NONCE + len(pydantic_core.to_json(secrets)) + _TAG
        return len(f"{self._keys[0].number}.") + -(-sealed * 4 // 3)

    def seal(self, job: Job, secrets: Secrets) -> Job:
        """Return the job, whose params show masks, with its secrets sealed."""
        if not secrets:
            return job
        key, nonce = self._keys[0], os.urandom(_NONCE)
        sealed = nonce + _cipher(key.secret, job).encrypt(nonce, pydantic_core.to_json(secrets), _context(job))
        text = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        return job.model_copy(update={"sealed": f"{key.number}.{text}"})

    def has_key_of(self, job: Job) -> bool:
        """Whether the job has no secrets, or their key is known here."""
        return job.sealed is None or job.sealed.partition(".")[0] in self._secrets

    def open(self, job: Job) -> tuple[Mapping[str, JsonValue], Secrets]:
        """Return the params as they were submitted, and the secrets among them.

        Raises:
            CannotOpen: The key is not known here, or the secrets were not sealed for this job. The message says which.
        """
        if job.sealed is None:
            return job.params, {}
        number, _, text = job.sealed.partition(".")
        if number not in self._secrets:
            raise CannotOpen(f"this processor does not have the key {number}: add it to {SEAL_KEYS}")
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            nonce, rest = sealed[:_NONCE], sealed[_NONCE:]
            secrets = pydantic_core.from_json(_cipher(self._secrets[number], job).decrypt(nonce, rest, _context(job)))
            return join(job.params, secrets), secrets
        except (InvalidTag, binascii.Error, LookupError, TypeError, ValueError) as error:
            raise CannotOpen(f"they were not sealed for this job, or with another key {number}") from error


def _cipher(secret: bytes, job: Job) -> AESGCM:
    """Return the cipher of one job: random nonces would not be safe for more than 2³² jobs with one key."""
    return AESGCM(HKDF(SHA256(), KEY_SIZE, salt=None, info=f"milepost params {job.id}".encode()).derive(secret))


def _context(job: Job) -> bytes:
    """Return what is authenticated with the secrets."""
    return json.dumps([job.id, job.tenant, job.type, job.params], sort_keys=True, separators=(",", ":")).encode()


def _checked(value: SecretStr) -> SecretStr:
    try:
        Sealer.parse(value.get_secret_value())
    except WeakKeyring as error:
        raise ValueError(str(error)) from None
    return value


#: The setting with the keys; empty where no job type has secret params.
SealKeys = Annotated[SecretStr, AfterValidator(_checked)]
