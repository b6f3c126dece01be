"""Verification of received webhooks (Standard Webhooks 1.0)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from standardwebhooks import Webhook as Signer
from standardwebhooks.webhooks import EmptyWebhookSecretError, WebhookVerificationError

from milepost_client.errors import InvalidWebhook
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.job_events import JobEvent, decode_event
from milepost_contracts.states import Status
from milepost_contracts.values import Job


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A verified webhook of a job's end."""

    #: The same for each delivery of the webhook: ignore duplicates.
    id: str
    #: Orders the webhooks of one job: that of a later run, or of a late success, is greater.
    sequence: str
    status: Status
    #: The job when it ended, with its result or error.
    job: Job


def verify_webhook(body: bytes, headers: Mapping[str, str], secrets: str | Sequence[str]) -> Webhook:
    """Verify a webhook, and return its content.

    Args:
        body: The raw body of the request, not parsed and serialized again.
        headers: The headers of the request, in any case.
        secrets: What `milepost webhooks secrets` prints: one secret, or two during a rotation.

    Raises:
        InvalidWebhook: No secret matches, the timestamp is more than five minutes off, or the body is not a job event.
    """
    plain = {name.lower(): value for name, value in headers.items()}
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        try:
            Signer(secret).verify(body, plain, json_parse=False)
        except (
            WebhookVerificationError,
            EmptyWebhookSecretError,
            ValueError,
        ) as error:  # ValueError: malformed secret, header or body
            reason = str(error)
            continue
        return _read(body, plain["webhook-id"])
    raise InvalidWebhook(f"No secret matches: {reason}" if secrets else "No secret was given.")


def _read(body: bytes, webhook_id: str) -> Webhook:
    try:
        event = decode_event(body)
    except MalformedEvent as error:
        raise InvalidWebhook(f"The signed body is not an event: {error}") from error
    if not isinstance(event, JobEvent):
        raise InvalidWebhook("The signed event is not a job event.")
    return Webhook(id=webhook_id, sequence=event.sequence, status=event.status, job=event.job)
