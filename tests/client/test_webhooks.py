"""The verifier of webhooks, for who receives them."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from samples import ENDED, SUBMITTED
from standardwebhooks import Webhook as Signer

from milepost_client import InvalidWebhook, Status, verify_webhook
from milepost_contracts.events import JobSubmitted, JobSucceeded, encode_event

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
ENDED_WELL = JobSucceeded(job=ENDED.model_copy(update={"result": {"files": 1}}))


def signed(body, secret=SECRET, *, ago=timedelta(0)):
    at = datetime.now(UTC) - ago
    signature = Signer(secret).sign("w1", at, body.decode())
    return {"Webhook-Id": "w1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def test_a_webhook_says_how_the_job_ended():
    """Typed, with the id by which a repeat is known, and the sequence by which ends are ordered."""
    body = encode_event(ENDED_WELL)
    told = verify_webhook(body, signed(body), SECRET)
    assert ("w1", ENDED_WELL.sequence, Status.SUCCEEDED) == (told.id, told.sequence, told.status)
    assert {"files": 1} == told.job.result


def test_while_secrets_change_either_fits():
    """The gateway signs with both; a receiver has one, or both."""
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
def test_what_was_forged_is_refused(change):
    """Whatever its headers are."""
    body = encode_event(ENDED_WELL)
    with pytest.raises(InvalidWebhook):
        verify_webhook(body, signed(body) | change, SECRET)


def test_a_body_that_was_changed_is_refused():
    """One byte is enough."""
    body = encode_event(ENDED_WELL)
    with pytest.raises(InvalidWebhook):
        verify_webhook(body.replace(b'"files":1', b'"files":2'), signed(body), SECRET)


@pytest.mark.parametrize("ago", [timedelta(minutes=6), -timedelta(minutes=6)])
def test_an_old_webhook_is_refused(ago):
    """Somebody recorded it, or a clock is wrong."""
    body = encode_event(ENDED_WELL)
    with pytest.raises(InvalidWebhook, match="Message timestamp"):
        verify_webhook(body, signed(body, ago=ago), SECRET)


@pytest.mark.parametrize("body", [b"{}", b"not JSON", "schön".encode("latin-1")])
def test_what_is_signed_and_no_event_is_refused(body):
    """Another program has the same secret."""
    headers = signed(b"{}") if not body.isascii() else signed(body)
    with pytest.raises(InvalidWebhook):
        verify_webhook(body, headers, SECRET)


def test_without_a_secret_nothing_is_taken():
    """An empty list, a setting that is missing, or no secret at all."""
    body = encode_event(JobSubmitted(job=SUBMITTED))
    for secrets in ([], "", "whsec_", ["nonsense"]):
        with pytest.raises(InvalidWebhook):
            verify_webhook(body, signed(body), secrets)
