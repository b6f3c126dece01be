"""Webhooks (Standard Webhooks 1.0): their body, secrets, routing and retry delays, and their delivery attempts.

See `callback_urls.CallbackPolicy` for the URLs that may be called.
"""

import base64
import hmac
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Literal

import pydantic_core
from pydantic import AwareDatetime

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.ids import SigningKey
from milepost_contracts.messages.delay_levels import delay_words
from milepost_contracts.messages.job_events import JobEvent, encode_event
from milepost_contracts.messages.topology import WEBHOOK_KEY
from milepost_contracts.values import Job, Value

RETRY_DELAYS = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""The delay after each failed attempt: a little more than three days in total."""

RECEIVER_TIMEOUT = timedelta(seconds=15)
"""How long a receiver may take to answer."""

MAX_TRIES_KEPT = 100
"""Number of a job's latest delivery attempts that are kept."""

TRIES_HEADER, ASKED_HEADER, PUT_OFF_HEADER = "x-tries", "x-asked", "x-put-off"
"""AMQP headers of a webhook: the number of earlier attempts, whether it is a requested redelivery, and how often it was
deferred since because its host or its tenant had too many under way."""

_SECRET = 32


class WebhookKeys:
    """The keys from which all tenants' secrets are derived; to rotate, put a new key in front for a while."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(keys)

    def secrets(self, tenant: str) -> tuple[str, ...]:
        """Return the secrets of a tenant's webhooks, newest first: `whsec_…`."""
        return tuple(f"whsec_{base64.b64encode(self._secret(key, tenant)).decode()}" for key in self._keys)

    @staticmethod
    def _secret(key: SigningKey, tenant: str) -> bytes:
        return hmac.digest(key.secret, f"milepost-webhook {tenant}".encode(), sha256)[:_SECRET]


def parse_webhook_keys(text: str) -> WebhookKeys | None:
    """Read `NUMBER:HEX[,NUMBER:HEX…]`, newest first; return nothing for an empty text.

    Raises:
        WeakKeyring: They are malformed or too short.
    """
    keys = SigningKey.parse_all(text)
    for key in keys:
        if len(key.secret) < _SECRET:
            raise WeakKeyring(f"webhook key {key.number} has {len(key.secret)} bytes; it needs {_SECRET}")
    return WebhookKeys(keys) if keys else None


Outcome = Literal["delivered", "failed", "gone", "disabled", "refused"]


class WebhookTry(Value):
    """An attempt to deliver a webhook."""

    webhook_id: str
    """`webhook-id`: the CloudEvent's id, the same for every attempt."""
    event: str
    """What happened to the job, in the past tense: `succeeded`."""
    number: int
    """1 for the first."""
    asked: bool = False
    """Whether it is a requested redelivery."""
    at: AwareDatetime
    outcome: Outcome
    """`delivered`; `failed`, and retried at `next_at` if that is set; `gone`: the receiver answered 410 and gets no
    more webhooks; `disabled`: it answered 410 before; `refused`: its URL may not be called."""
    status_code: int | None = None
    """The status code of the receiver's answer."""
    error: str | None = None
    """Why there was no answer."""
    duration_ms: int | None = None
    next_at: AwareDatetime | None = None


class WebhookTries(Value):
    """The latest delivery attempts of a job's webhooks."""

    url: str
    items: tuple[WebhookTry, ...]
    """Oldest first; the latest 100."""


def render(event: JobEvent) -> bytes:
    """Return the body of a webhook: the CloudEvent, with the additional field `timestamp` of Standard Webhooks."""
    return encode_event(event.shown)[:-1] + b',"timestamp":%b}' % pydantic_core.to_json(event.time)


def routing_key(job: Job, *, after: timedelta) -> str:
    """Return the routing key of a webhook that is to be sent after this delay."""
    return f"{WEBHOOK_KEY}.{job.queue}.{job.type}.{delay_words(after)}"


class WebhookSecrets(Value):
    items: tuple[str, ...]
    """Newest first; while there are two, each webhook is signed with both."""
