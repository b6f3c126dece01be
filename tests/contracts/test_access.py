"""API keys, and the file that has them."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from milepost_contracts.access import Access, Limits, Scope, create_key, is_loopback, read_access, write_access
from milepost_contracts.envelope import now

READ = frozenset({Scope.READ})


def test_a_key_is_found_by_its_text_alone():
    """Its id is not enough, nor is another key's secret."""
    (text, key), (other_text, other) = create_key("acme", READ), create_key("acme", READ)
    access = Access(keys=(key, other))
    assert key == access.key(text)
    assert other == access.key(other_text)
    mixed = f"mp_{key.id}_{other_text[16:]}"
    for wrong in (key.id, text[:-1], text + "x", text.upper(), mixed, "", key.digest):
        assert access.key(wrong) is None


def test_the_file_has_nothing_that_opens_anything(tmp_path):
    """Whoever reads it can't ask for anything."""
    text, key = create_key("acme", READ)
    write_access(tmp_path / "access.json", Access(keys=(key,)))
    written = (tmp_path / "access.json").read_text()
    assert text not in written
    assert text[16:] not in written
    assert 0o600 == (tmp_path / "access.json").stat().st_mode & 0o777


def test_a_key_ends_with_its_time():
    """From then on it is as unknown as any other."""
    text, key = create_key("acme", READ, expires_at=now() - timedelta(seconds=1))
    assert Access(keys=(key,)).key(text) is None


def test_a_revoked_key_is_gone_and_the_others_stay():
    """To rotate: a second one, and then without the first."""
    (text, key), (other_text, other) = create_key("acme", READ), create_key("acme", READ)
    access = Access().with_key(key).with_key(other).without_key(key.id)
    assert access.key(text) is None
    assert other == access.key(other_text)


def test_what_is_written_is_read(tmp_path):
    """With whatever people wrote beside the keys."""
    access = Access.model_validate(
        {
            "issuers": [{"issuer": "https://i", "audience": "milepost", "jwks_url": "https://i/keys"}],
            "limits": {"acme": {"live_jobs": 3}, "*": {"jobs_per_second": 0.5}},
        }
    ).with_key(create_key("acme", READ)[1])
    path = tmp_path / "access.json"
    path.write_text("{}")
    path.chmod(0o640)
    write_access(path, access)
    assert access == read_access(path)
    assert (0o640, [path]) == (path.stat().st_mode & 0o777, list(tmp_path.iterdir()))


def test_limits_are_the_tenants_own_or_everybodys():
    """Nothing is limited without a word but listeners."""
    access = Access.model_validate({"limits": {"acme": {"live_jobs": 3}, "*": {"live_jobs": 5}}})
    assert [3, 5] == [access.limits_of(tenant).live_jobs for tenant in ("acme", "other")]
    assert Limits(jobs_per_second=None, live_jobs=None, listeners=2_000) == Access().limits_of("acme")


@pytest.mark.parametrize(
    "text, place",
    [
        ("{", "Invalid JSON"),
        ('{"key": []}', "key: Extra"),
        ('{"limits": {"acme": {"live": 3}}}', "live: Extra"),
        ('{"limits": {"A": {}}}', "limits.A"),
        ('{"keys": [{"id": "zz"}]}', "keys.0.id"),
        ('{"issuers": [{"issuer": "i", "audience": "a", "jwks_url": "http://far/keys"}]}', "https"),
        ('{"issuers": [{"issuer": "i", "audience": "a", "jwks_url": "file:///etc/passwd"}]}', "https"),
    ],
)
def test_a_file_that_does_not_fit_says_where(tmp_path, text, place):
    """And repeats nothing of what it has."""
    path = tmp_path / "access.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=place) as caught:
        read_access(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    """One sentence."""
    with pytest.raises(ValueError, match="can't be read: No such file"):
        read_access(tmp_path / "access.json")


def test_a_key_may_do_something():
    """One without a scope is a mistake."""
    with pytest.raises(ValidationError):
        create_key("acme", frozenset())


def test_a_key_is_in_the_file_once(tmp_path):
    """Else it would be a question of order whose it is."""
    _, key = create_key("acme", READ)
    other = key.model_copy(update={"tenant": "other"})
    write_access(tmp_path / "access.json", Access().with_key(key).with_key(other))
    with pytest.raises(ValueError, match="twice"):
        read_access(tmp_path / "access.json")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_this_machine_alone_is_meant(host):
    """However it is written."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])  # noqa: S104
def test_other_machines_are_meant(host):
    """A name may be anybody's."""
    assert not is_loopback(host)
