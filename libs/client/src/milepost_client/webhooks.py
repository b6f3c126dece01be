"""For who receives webhooks (Standard Webhooks 1.0): is it from Milepost, and what does it say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from standardwebhooks import Webhook as Signer
from standardwebhooks.webhooks import EmptyWebhookSecretError, WebhookVerificationError

from milepost_client.errors import InvalidWebhook
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import JobEvent, decode_event
from milepost_contracts.states import Status
from milepost_contracts.values import Job


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """What Milepost told of a job's end."""

    #: The same each time that it is sent: do nothing when it comes again.
    id: str
    #: Sorts what is told of one job: a later end, after another run or a late success, is greater.
    sequence: str
    status: Status
    #: The job as it was then, with its result or error.
    job: Job


def verify_webhook(body: bytes, headers: Mapping[str, str], secrets: str | Sequence[str]) -> Webhook:
    """Return what a webhook says, if it was signed with one of the secrets in the last five minutes.

    Args:
        body: Of the request, as it came: not parsed and written again.
        headers: Of the request, in whatever case.
        secrets: What `milepost webhooks secrets` prints; two while they change.

    Raises:
        InvalidWebhook: It was not, or is no webhook of a job's end.
    """
    plain = {name.lower(): value for name, value in headers.items()}
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        try:
            Signer(secret).verify(body, plain, json_parse=False)
        except (
            WebhookVerificationError,
            EmptyWebhookSecretError,
            ValueError,
        ) as error:  # ValueError: what can't be read
            reason = str(error)
            continue
        return _read(body, plain["webhook-id"])
    raise InvalidWebhook(f"no secret fits: {reason}" if secrets else "there is no secret to verify it with")


def _read(body: bytes, webhook_id: str) -> Webhook:
    try:
        event = decode_event(body)
    except MalformedEvent as error:
        raise InvalidWebhook(f"it is signed, but no event: {error}") from error
    if not isinstance(event, JobEvent):
        raise InvalidWebhook("it is signed, but not about a job's state")
    return Webhook(id=webhook_id, sequence=event.sequence, status=event.status, job=event.job)
