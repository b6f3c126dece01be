"""API keys and the access file."""

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError

from milepost_contracts.clock import now
from milepost_contracts.http.access import Access, Limits, Scope, create_key, is_loopback, read_access, write_access

READ = frozenset({Scope.READ})


def test_a_key_is_found_only_by_its_complete_text():
    """Its id, its digest and a mix of two keys are refused."""
    (text, key), (other_text, other) = create_key("acme", READ), create_key("acme", READ)
    access = Access(keys=(key, other))
    assert key == access.key(text)
    assert other == access.key(other_text)
    mixed = f"mp_{key.id}_{other_text[16:]}"
    for wrong in (key.id, text[:-1], text + "x", text.upper(), mixed, "", key.digest):
        assert access.key(wrong) is None


def test_the_access_file_contains_no_secret(tmp_path):
    """It has only digests, and only its owner can read it."""
    text, key = create_key("acme", READ)
    write_access(tmp_path / "access.json", Access(keys=(key,)))
    written = (tmp_path / "access.json").read_text()
    assert text not in written
    assert text[16:] not in written
    assert 0o600 == (tmp_path / "access.json").stat().st_mode & 0o777


def test_an_expired_key_is_unknown():
    """It is treated like any other unknown key."""
    text, key = create_key("acme", READ, expires_at=now() - timedelta(seconds=1))
    assert Access(keys=(key,)).key(text) is None


def test_a_revoked_key_is_removed_and_the_others_stay():
    """To rotate a key, create a second one and revoke the first."""
    (text, key), (other_text, other) = create_key("acme", READ), create_key("acme", READ)
    access = Access().with_key(key).with_key(other).without_key(key.id)
    assert access.key(text) is None
    assert other == access.key(other_text)


GRANTS = {"tenants": ["acme"], "scopes": ["read"]}


def issuer(**changes):
    """Return an access file with an issuer of tokens; `None` leaves a field out."""
    entry = {"issuer": "i", "audience": "a", "jwks_url": "https://i/keys", **GRANTS, **changes}
    return json.dumps({"issuers": [{name: value for name, value in entry.items() if value is not None}]})


def test_a_written_access_file_reads_back_the_same(tmp_path):
    """This includes issuers and limits; the permissions of the file are kept."""
    access = Access.model_validate(
        {
            "issuers": [{"issuer": "https://i", "audience": "milepost", "jwks_url": "https://i/keys", **GRANTS}],
            "limits": {"acme": {"live_jobs": 3}, "*": {"jobs_per_second": 0.5}},
        }
    ).with_key(create_key("acme", READ)[1])
    path = tmp_path / "access.json"
    path.write_text("{}")
    path.chmod(0o640)
    write_access(path, access)
    assert access == read_access(path)
    assert (0o640, [path]) == (path.stat().st_mode & 0o777, list(tmp_path.iterdir()))


def test_a_tenant_has_its_own_limits_or_the_default_ones():
    """Without an entry only listeners are limited."""
    access = Access.model_validate({"limits": {"acme": {"live_jobs": 3}, "*": {"live_jobs": 5}}})
    assert [3, 5] == [access.limits_of(tenant).live_jobs for tenant in ("acme", "other")]
    assert Limits(jobs_per_second=None, live_jobs=None, listeners=2_000) == Access().limits_of("acme")


@pytest.mark.parametrize(
    "text, expected_text",
    [
        ("{", "Invalid JSON"),
        ('{"key": []}', "key: Extra"),
        ('{"limits": {"acme": {"live": 3}}}', "live: Extra"),
        ('{"limits": {"A": {}}}', "limits.A"),
        ('{"keys": [{"id": "zz"}]}', "keys.0.id"),
        (issuer(jwks_url="http://far/keys"), "https"),
        (issuer(jwks_url="file:///etc/passwd"), "https"),
        (issuer(tenants=None), 'issuers.0: an issuer needs "tenants", a list'),
        (issuer(scopes=None), 'and "scopes", a list'),
        (issuer(tenants=[]), "issuers.0.tenants"),
        (issuer(tenants=["a", "B"]), "issuers.0.tenants"),
        (issuer(scopes=["root"]), "issuers.0.scopes"),
    ],
)
def test_an_invalid_access_file_is_refused_with_the_place(tmp_path, text, expected_text):
    """The error has the path of the file."""
    path = tmp_path / "access.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=expected_text) as caught:
        read_access(path)
    assert str(path) in str(caught.value)


def test_a_missing_access_file_is_reported(tmp_path):
    """The error is one sentence."""
    with pytest.raises(ValueError, match="can't be read: No such file"):
        read_access(tmp_path / "access.json")


def test_a_key_needs_a_scope():
    """A key without a scope is a mistake."""
    with pytest.raises(ValidationError):
        create_key("acme", frozenset())


def test_a_key_id_that_occurs_twice_is_refused(tmp_path):
    """Otherwise the order of the entries would decide on its tenant."""
    _, key = create_key("acme", READ)
    other = key.model_copy(update={"tenant": "other"})
    write_access(tmp_path / "access.json", Access().with_key(key).with_key(other))
    with pytest.raises(ValueError, match="twice"):
        read_access(tmp_path / "access.json")


def test_an_issuer_that_occurs_twice_is_refused(tmp_path):
    """Only the first entry would count."""
    (path := tmp_path / "access.json").write_text(
        json.dumps({"issuers": json.loads(issuer())["issuers"] + json.loads(issuer(audience="other"))["issuers"]})
    )
    with pytest.raises(ValueError, match="the issuer i is listed twice"):
        read_access(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_loopback_hosts_are_recognized(host):
    """This holds for every spelling."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])  # noqa: S104
def test_other_hosts_are_not_loopback(host):
    """A host name may resolve to any address."""
    assert not is_loopback(host)
