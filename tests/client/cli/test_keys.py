"""`milepost keys`: the access file from the command line."""

import json

import pytest

from milepost_client.cli import __main__ as cli
from milepost_contracts.http.access import Scope, read_access


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.json"


@pytest.fixture
def keys(path, monkeypatch, capsys):
    """Run `milepost keys …`; return exit code, standard output and standard error."""
    monkeypatch.setenv("MILEPOST_ACCESS_FILE", str(path))

    def run(*words):
        monkeypatch.setattr("sys.argv", ["milepost", "keys", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    return run


def test_a_key_is_printed_once_and_works(keys, path):
    """Standard output has only the key, for scripts; the file is created."""
    code, out, err = keys("create", "--tenant", "acme", "--note", "checkout")
    assert (0, 1) == (code, len(out.splitlines()))
    key = read_access(path).key(out.strip())
    assert ("acme", {Scope.READ, Scope.SUBMIT}, "checkout", None) == (key.tenant, key.scopes, key.note, key.expires_at)
    assert "only its digest" in err


def test_the_list_shows_tenants_and_scopes_and_no_secret(keys):
    """This holds for the table and for JSON."""
    _, text, _ = keys("create", "--tenant", "acme", "--scope", "admin", "--expires-in", "90d")
    secret = text.strip()[16:]
    _, table, _ = keys("list")
    assert "acme" in table
    assert "admin" in table
    _, listed, _ = keys("list", "--json")
    assert ["admin"] == json.loads(listed)[0]["scopes"]
    assert secret not in table + listed


def test_a_revoked_key_is_refused(keys, path):
    """A key is revoked by its id or by its complete text."""
    for argument in (lambda text: text.split("_")[1], lambda text: text):
        _, text, _ = keys("create")
        assert 0 == keys("revoke", argument(text.strip()))[0]
        assert read_access(path).key(text.strip()) is None


@pytest.mark.parametrize(
    "words, expected_text",
    [
        (("create", "--tenant", "A c"), "lower-case words"),
        (("create", "--scope", "everything"), "'--scope': 'everything' is not one of read, submit, admin"),
        (("create", "--expires-in", "soon"), "not a duration"),
        (("create", "--file", "/nowhere/access.json"), "does not exist"),
        (("revoke", "4f1c2a9be07d"), "can't be read"),
        (("list",), "can't be read"),
    ],
)
def test_invalid_usage_is_reported(keys, words, expected_text):
    """The exit code is 2, and the message has the reason."""
    code, _, err = keys(*words)
    assert 2 == code
    assert expected_text in " ".join(err.replace("│", " ").split())
