"""The sealed form of secret params: its bytes, that it opens for one job alone, and the rotation of its keys."""

import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.messages.job_events import JobSubmitted, decode_event, encode_event
from milepost_contracts.secret_params import MASK
from milepost_contracts.status.render import job_of, render_hidden, render_state
from milepost_contracts.values import MAX_PARAMS, Job
from milepost_service.sealing import CannotOpen, Sealer

OLD, NEW = "1:" + "ab" * 32, "2:" + "cd" * 32
GOLDEN = "1.AQEBAQEBAQEBAQEBQaxkDX7RSf7Qz0UVHJd-8WETRoXK2Uq5UoBhOugM3Nfs0Jt9JdxByWKwfFk_vW3awgYK--8"
SECRETS = {"/token": "hunter2", "/auth/pin": 1234}
JOB = Job(
    id="06gvrfugk5uqp4ai689fqgvn1s0s43st4sfvhj6i",
    tenant="default",
    type="fetch",
    queue="default",
    params={"url": "https://example.com", "token": MASK, "auth": {"pin": MASK}},
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
)
PARAMS = {"url": "https://example.com", "token": "hunter2", "auth": {"pin": 1234}}


@pytest.fixture
def sealed():
    return Sealer.parse(OLD).seal(JOB, SECRETS)


def test_the_sealed_form_has_its_golden_bytes(monkeypatch):
    """Services of other releases read it."""
    monkeypatch.setattr(os, "urandom", lambda size: b"\1" * size)
    made = Sealer.parse(OLD).seal(JOB, SECRETS)
    assert GOLDEN == made.sealed
    assert (PARAMS, SECRETS) == Sealer.parse(OLD).open(made)


def test_the_same_secrets_are_sealed_differently_each_time(sealed):
    """Nobody sees that two jobs have the same secret."""
    assert sealed.sealed != Sealer.parse(OLD).seal(JOB, SECRETS).sealed


@pytest.mark.parametrize(
    "changes",
    [
        {"id": JOB.id[:-1] + "0"},
        {"tenant": "other"},
        {"type": "other"},
        {"params": {**JOB.params, "url": "https://evil.example"}},
        {"params": {"token": MASK}},
    ],
    ids=str,
)
def test_secrets_that_were_moved_do_not_open(sealed, changes):
    """Not for another job, tenant or type, and not beside other params: a URL says where the secret goes."""
    with pytest.raises(CannotOpen, match="not sealed for this job"):
        Sealer.parse(OLD).open(sealed.model_copy(update=changes))


@given(st.data())
def test_a_sealed_form_with_any_change_does_not_open(data):
    """Whichever character is changed, cut off or added."""
    made = Sealer.parse(OLD).seal(JOB, SECRETS)
    text, at = made.sealed, data.draw(st.integers(2, len(made.sealed) - 2))
    other = data.draw(st.sampled_from("Ab9_-.é!")).replace(text[at], "")
    with pytest.raises(CannotOpen):
        Sealer.parse(OLD).open(made.model_copy(update={"sealed": text[:at] + other + text[at + 1 :]}))


def test_the_first_key_seals_and_all_keys_open(sealed):
    """A new key is added behind the old one everywhere, then moved to the front; the old one goes last."""
    rotated = Sealer.parse(f"{NEW},{OLD}")
    assert PARAMS == rotated.open(sealed)[0]
    resealed = rotated.seal(JOB, SECRETS)
    assert resealed.sealed.startswith("2.")
    assert PARAMS == Sealer.parse(f"{OLD},{NEW}").open(resealed)[0]
    assert not Sealer.parse(NEW).has_key_of(sealed)
    with pytest.raises(CannotOpen, match="MILEPOST_SEAL_KEYS"):
        Sealer.parse(NEW).open(sealed)


def test_a_job_without_secrets_needs_no_key():
    """It is not changed, and opens everywhere."""
    without = Sealer()
    assert JOB is without.seal(JOB, {})
    assert without.has_key_of(JOB)
    assert (JOB.params, {}) == without.open(JOB)


@pytest.mark.parametrize("text", ["1:ab", "ab" * 32, f"{OLD},{OLD}", "1:" + "ab" * 33])
def test_a_weak_or_ambiguous_key_is_refused(text):
    """AES-256 needs 32 bytes."""
    with pytest.raises(WeakKeyring):
        Sealer.parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), JSON)
def test_secrets_open_after_every_form_that_a_job_travels_in(others, secret):
    """As an event at the broker, and as what Redis keeps for a retry: the numbers of the params do not change."""
    sealer = Sealer.parse(OLD)
    job = sealer.seal(JOB.model_copy(update={"params": {**others, "secret": MASK}}), {"/secret": secret})
    assert len(job.sealed) == sealer.size({"/secret": secret})
    event = decode_event(encode_event(JobSubmitted(job=job)))
    kept = job_of(render_state(event, retention=JOB.start_within), render_hidden(event))
    for one in (event.job, kept):
        assert {**others, "secret": secret} == sealer.open(one)[0]


def test_what_is_sealed_of_the_largest_params_fits_into_a_job():
    """The gateway refuses more."""
    secrets = {"/token": "x" * 48_000}
    made = Sealer.parse(OLD).seal(JOB, secrets)
    assert MAX_PARAMS >= len(Job.model_validate(made.model_dump()).sealed)
