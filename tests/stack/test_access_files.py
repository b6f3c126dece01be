"""The files that `stack access` writes."""

import hashlib
import json
import stat

import pytest

from milepost_stack.access_files import Wanted, write_access_files
from milepost_stack.errors import StackError

WANTED = Wanted(processors={"gpu-team": ("gpu", "images")}, teams={"billing": ("job.succeeded.#",)})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "access"


def read(folder, name):
    lines = [line for line in (folder / name).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def password(url):
    return url.partition("://")[2].partition("@")[0].partition(":")[2]


def test_what_a_server_reads_has_no_password(folder):
    """Only hashes; so it may be readable within its folder, in which nobody else may look."""
    write_access_files(folder, WANTED)
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    secrets = [word for path in folder.glob("*.env") for word in read(folder, path.name).values()]
    passwords = {password(url) for url in secrets if "://" in url}
    assert 6 == len(passwords)
    for name in ("definitions.json", "users.acl"):
        text = (folder / name).read_text()
        assert not [one for one in passwords if one in text]
    for path in folder.glob("*.env"):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_the_servers_know_the_password_of_each_service(folder):
    """RabbitMQ's hash has a salt in front; Redis's has none."""
    write_access_files(folder, WANTED)
    secret = password(read(folder, "gateway.env")["MILEPOST_REDIS_URL"])
    assert (
        f"user milepost-gateway on #{hashlib.sha256(secret.encode()).hexdigest()} "
        in (folder / "users.acl").read_text()
    )
    users = {one["name"]: one for one in json.loads((folder / "definitions.json").read_text())["users"]}
    assert {
        "milepost-gateway",
        "milepost-tracker",
        "milepost-processor",
        "gpu-team",
        "billing",
        "milepost-operator",
    } == {*users}
    assert ["administrator"] == users["milepost-operator"]["tags"]


def test_a_second_call_keeps_the_secrets_and_adds_a_user(folder):
    """Running services go on; a deleted file gets new secrets."""
    write_access_files(folder, Wanted())
    before = {path.name: path.read_text() for path in folder.glob("*.env")}
    (folder / "processor.env").unlink()
    write_access_files(folder, Wanted(teams={"billing": None}))
    after = {path.name: path.read_text() for path in folder.glob("*.env")}
    assert {"billing.env", "processor.env"} == {name for name in after if after[name] != before.get(name)}


def test_gateways_and_trackers_share_their_keys_and_processors_have_none(folder):
    """A stolen processor can sign neither ids nor webhooks."""
    write_access_files(folder, WANTED)
    gateway, tracker = read(folder, "gateway.env"), read(folder, "tracker.env")
    keys = ("MILEPOST_ID_KEYS", "MILEPOST_WEBHOOK_KEYS")
    assert [gateway[name] for name in keys] == [tracker[name] for name in keys]
    for name in ("processor.env", "gpu-team.env"):
        assert not set(keys) & set(read(folder, name))
    assert {"MILEPOST_RABBITMQ_URL"} == set(read(folder, "billing.env"))


def test_another_virtual_host_and_namespace_are_meant_everywhere(folder):
    """The permissions are for that host, and the names begin with that namespace."""
    write_access_files(folder, Wanted(namespace="acme", rabbitmq_url="amqps://broker:5671/prod"))
    document = json.loads((folder / "definitions.json").read_text())
    assert [{"name": "prod"}] == document["vhosts"]
    assert {"prod"} == {one["vhost"] for one in (*document["permissions"], *document["topic_permissions"])}
    assert read(folder, "tracker.env")["MILEPOST_RABBITMQ_URL"].startswith("amqps://acme-tracker:")
    assert "milepost" not in (folder / "users.acl").read_text()


def test_a_folder_that_others_can_enter_is_refused(folder):
    """The files of its servers are readable in it."""
    folder.mkdir(mode=0o755)
    with pytest.raises(StackError, match="chmod 700"):
        write_access_files(folder, WANTED)


def test_a_name_that_is_taken_is_refused(folder):
    """Nothing is written."""
    with pytest.raises(StackError, match="taken"):
        write_access_files(folder, Wanted(teams={"milepost": None}))
    assert [] == list(folder.glob("*"))
