"""Law 2: an id certifies itself."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from milepost_contracts.errors import UnknownJobId, WeakKeyring
from milepost_contracts.ids import Keyring, SigningKey

OLD = SigningKey(number=1, secret=b"o" * 32)
NEW = SigningKey(number=2, secret=b"n" * 32)
RING = Keyring([OLD])
TENANTS = st.text(min_size=1, max_size=20)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ALPHABET = "0123456789abcdefghijklmnopqrstuv"


@given(TENANTS, MOMENTS)
def test_an_issued_id_verifies_and_has_its_creation_time(tenant, at):
    """The key is enough to verify both without a look-up."""
    issued = RING.verify(RING.issue(tenant, at=at), tenant)
    assert abs((at - issued.created_at).total_seconds()) < 0.002


@given(TENANTS, TENANTS)
def test_an_id_of_another_tenant_is_refused(mine, other):
    """A tenant cannot learn that another tenant's job exists."""
    assume(mine != other)
    with pytest.raises(UnknownJobId):
        RING.verify(RING.issue(mine), other)


@given(TENANTS, st.binary(min_size=16, max_size=64))
def test_an_id_of_another_key_is_refused(tenant, secret):
    """An id of another deployment is unknown, even under the same key number."""
    assume(secret != OLD.secret)
    with pytest.raises(UnknownJobId):
        RING.verify(Keyring([SigningKey(number=1, secret=secret)]).issue(tenant), tenant)


@given(TENANTS, st.integers(0, 199))
def test_a_flipped_bit_is_refused(tenant, bit):
    """Each of an id's 200 bits counts."""
    flipped = int(RING.issue(tenant), 32) ^ (1 << bit)
    text = "".join(ALPHABET[flipped >> 5 * place & 31] for place in reversed(range(40)))
    with pytest.raises(UnknownJobId):
        RING.verify(text, tenant)


@given(TENANTS)
def test_a_rotated_key_still_verifies(tenant):
    """Rotation adds a new key that signs from then on; ids of the old key stay valid."""
    rotated = Keyring([NEW, OLD])
    old_id, new_id = RING.issue(tenant), rotated.issue(tenant)
    assert old_id == rotated.verify(old_id, tenant).job_id
    assert new_id == Keyring([NEW]).verify(new_id, tenant).job_id
    with pytest.raises(UnknownJobId):
        RING.verify(new_id, tenant)


STEPS = [Keyring(keys) for keys in ([OLD], [OLD, NEW], [NEW, OLD])]


@given(TENANTS)
@pytest.mark.parametrize("before, after", list(pairwise(STEPS)), ids=["the new key is added", "the new key signs"])
def test_gateways_before_and_after_a_step_of_a_rotation_verify_each_others_ids(before, after, tenant):
    """A key is added at the end everywhere, before it is moved to the front anywhere: no accepted id gets 404."""
    for issuer in (before, after):
        issued = issuer.issue(tenant)
        assert issued == before.verify(issued, tenant).job_id == after.verify(issued, tenant).job_id
        seal = issuer.seal("cursor")
        assert before.is_sealed("cursor", seal)
        assert after.is_sealed("cursor", seal)


@given(st.text(max_size=60) | st.text(ALPHABET, min_size=38, max_size=42))
def test_an_invented_id_is_refused(text):
    """Any text is refused with `UnknownJobId`."""
    with pytest.raises(UnknownJobId):
        RING.verify(text, "default")


@pytest.mark.parametrize("change", [str.upper, lambda text: text + "\n", lambda text: "+" + text[1:]])
def test_only_the_canonical_spelling_is_accepted(change):
    """A job has one id: no other spelling of it is accepted."""
    with pytest.raises(UnknownJobId):
        RING.verify(change(RING.issue("default")), "default")


def test_ids_sort_by_creation_time():
    """Listings sort by id only."""
    early, late = (RING.issue("default", at=datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2))
    assert early < late


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1:", "1:zz", "x:" + "12" * 32, "1:" + "12" * 8, "256:" + "12" * 32),
        *(f"1:{'12' * 32},1:{'11' * 32}", "1:" + "00" * 32, f"1:{'12' * 32},2:{'00' * 32}"),
    ],
)
def test_a_weak_or_ambiguous_keyring_is_refused(text):
    """A missing, short or unreadable key, one of zeros only, or a repeated number, never signs anything."""
    with pytest.raises(WeakKeyring):
        Keyring.parse(text)


def test_the_error_for_a_refused_key_does_not_contain_it():
    """The error may be written to a log."""
    with pytest.raises(WeakKeyring) as caught:
        Keyring.parse("1:cafe")
    assert "cafe" not in str(caught.value)
