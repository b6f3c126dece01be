"""The webhook verifier for receivers."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from samples import ENDED, SUBMITTED
from standardwebhooks import Webhook as Signer

from milepost_client import InvalidWebhook, Status, verify_webhook
from milepost_contracts.messages.job_events import JobSubmitted, JobSucceeded, encode_event

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
ENDED_WELL = JobSucceeded(job=ENDED.model_copy(update={"result": {"files": 1}}))


def signed(body, secret=SECRET, *, ago=timedelta(0)):
    at = datetime.now(UTC) - ago
    signature = Signer(secret).sign("w1", at, body.decode())
    return {"Webhook-Id": "w1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def test_a_verified_webhook_has_the_outcome_of_the_job():
    """It is typed, and has the id that identifies a redelivery and the sequence that orders outcomes."""
    body = encode_event(ENDED_WELL)
    webhook = verify_webhook(body, signed(body), SECRET)
    assert ("w1", ENDED_WELL.sequence, Status.SUCCEEDED) == (webhook.id, webhook.sequence, webhook.status)
    assert {"files": 1} == webhook.job.result


def test_during_a_rotation_either_secret_verifies():
    """The gateway signs with both; a receiver has one or both."""
    body = encode_event(ENDED_WELL)
    for secrets in ([OTHER, SECRET], [SECRET, OTHER]):
        assert "w1" == verify_webhook(body, signed(body), secrets).id
    both = signed(body)
    both["webhook-signature"] += " " + signed(body, OTHER)["webhook-signature"]
    assert "w1" == verify_webhook(body, both, OTHER).id


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "nonsense"},
        {"webhook-signature": "v1,not base64!"},
        {"webhook-signature": ""},
        {"webhook-timestamp": "soon"},
        {"Webhook-Id": "w2"},
    ],
)
def test_a_forged_webhook_is_refused(change):
    """Invalid signatures, timestamps and ids raise `InvalidWebhook`."""
    body = encode_event(ENDED_WELL)
    with pytest.raises(InvalidWebhook):
        verify_webhook(body, signed(body) | change, SECRET)


def test_a_changed_body_is_refused():
    """One byte is enough."""
    body = encode_event(ENDED_WELL)
    with pytest.raises(InvalidWebhook):
        verify_webhook(body.replace(b'"files":1', b'"files":2'), signed(body), SECRET)


@pytest.mark.parametrize("ago", [timedelta(minutes=6), -timedelta(minutes=6)])
def test_a_timestamp_more_than_five_minutes_off_is_refused(ago):
    """The webhook may be a replay, or a clock is wrong."""
    body = encode_event(ENDED_WELL)
    with pytest.raises(InvalidWebhook, match="Message timestamp"):
        verify_webhook(body, signed(body, ago=ago), SECRET)


@pytest.mark.parametrize("body", [b"{}", b"not JSON", "schön".encode("latin-1")])
def test_a_signed_body_that_is_not_an_event_is_refused(body):
    """Another program may use the same secret."""
    headers = signed(b"{}") if not body.isascii() else signed(body)
    with pytest.raises(InvalidWebhook):
        verify_webhook(body, headers, SECRET)


def test_without_a_valid_secret_every_webhook_is_refused():
    """The secrets may be an empty list, a missing setting or no secrets at all."""
    body = encode_event(JobSubmitted(job=SUBMITTED))
    for secrets in ([], "", "whsec_", ["nonsense"]):
        with pytest.raises(InvalidWebhook):
            verify_webhook(body, signed(body), secrets)
