"""The files that `stack access` writes."""

import hashlib
import json
import stat

import pytest
from typer.testing import CliRunner

from milepost_stack.__main__ import app
from milepost_stack.access_files import Deployment, write_access_files
from milepost_stack.errors import StackError

DEPLOYMENT = Deployment(processors={"gpu-team": ("gpu", "images")}, teams={"billing": ("job.succeeded.#",)})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "access"


@pytest.fixture
def access(folder):
    """Run `stack access` in the folder; return the result."""
    return lambda *words: CliRunner().invoke(app, ["access", "--folder", str(folder), *words])


def contents(folder):
    return {path.name: path.read_text() for path in folder.glob("*")}


def read(folder, name):
    lines = [line for line in (folder / name).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def password(url):
    return url.partition("://")[2].partition("@")[0].partition(":")[2]


def test_what_a_server_reads_has_no_password(folder):
    """Only hashes; so it may be readable within its folder, in which nobody else may look."""
    write_access_files(folder, DEPLOYMENT)
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
    write_access_files(folder, DEPLOYMENT)
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
    write_access_files(folder, Deployment())
    before = {path.name: path.read_text() for path in folder.glob("*.env")}
    (folder / "processor.env").unlink()
    write_access_files(folder, Deployment(teams={"billing": None}))
    after = {path.name: path.read_text() for path in folder.glob("*.env")}
    assert {"billing.env", "processor.env"} == {name for name in after if after[name] != before.get(name)}


def test_gateways_and_trackers_share_their_keys_and_processors_have_none(folder):
    """A stolen processor can sign neither ids nor webhooks."""
    write_access_files(folder, DEPLOYMENT)
    gateway, tracker = read(folder, "gateway.env"), read(folder, "tracker.env")
    keys = ("MILEPOST_ID_KEYS", "MILEPOST_WEBHOOK_KEYS")
    assert [gateway[name] for name in keys] == [tracker[name] for name in keys]
    for name in ("processor.env", "gpu-team.env"):
        assert not set(keys) & set(read(folder, name))
    assert {"MILEPOST_RABBITMQ_URL"} == set(read(folder, "billing.env"))


def test_another_virtual_host_and_namespace_are_meant_everywhere(folder):
    """The permissions are for that host, and the names begin with that namespace."""
    write_access_files(folder, Deployment(namespace="acme", rabbitmq_url="amqps://broker:5671/prod"))
    document = json.loads((folder / "definitions.json").read_text())
    assert [{"name": "prod"}] == document["vhosts"]
    assert {"prod"} == {one["vhost"] for one in (*document["permissions"], *document["topic_permissions"])}
    assert read(folder, "tracker.env")["MILEPOST_RABBITMQ_URL"].startswith("amqps://acme-tracker:")
    assert "milepost" not in (folder / "users.acl").read_text()


def test_a_folder_that_others_can_enter_is_refused(folder):
    """The files of its servers are readable in it."""
    folder.mkdir(mode=0o755)
    with pytest.raises(StackError, match="chmod 700"):
        write_access_files(folder, DEPLOYMENT)


OWN = ("--rabbitmq-url", "amqps://rabbitmq.example:5671/", "--redis-url", "rediss://redis.example:6379/1")
FIRST = ("--processor", "gpu-team:gpu+images", "--team", "billing:job.succeeded.#", "--namespace", "acme", *OWN)


def test_a_second_call_keeps_the_users_and_urls_and_adds_a_user(access, folder):
    """Nobody who uses the folder loses access."""
    assert 0 == access(*FIRST).exit_code
    before = contents(folder)
    assert 0 == access("--team", "audit").exit_code
    after = contents(folder)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"audit.env", "deployment.json", "definitions.json"} == changed
    assert not {*before} - {*after}
    document = json.loads(after["definitions.json"])
    assert {"gpu-team", "billing", "audit"} <= {one["name"] for one in document["users"]}
    assert {"^(job\\.succeeded\\.\\#)$"} == {
        one["read"] for one in document["topic_permissions"] if one["user"] == "billing"
    }
    assert "user gpu-team on" in after["users.acl"]


def test_a_user_that_is_named_again_gets_what_it_is_named_with(access, folder):
    """And keeps its password."""
    access(*FIRST)
    before = contents(folder)
    assert 0 == access("--processor", "gpu-team:gpu").exit_code
    assert before["gpu-team.env"].replace("gpu+images", "gpu") == (folder / "gpu-team.env").read_text()


def test_a_removed_user_is_gone_with_its_secrets(access, folder):
    """From the files of the servers and of all services; the others stay."""
    access(*FIRST)
    assert 0 == access("--remove", "gpu-team").exit_code
    after = contents(folder)
    assert "gpu-team.env" not in after
    assert [] == [name for name, text in after.items() if "gpu-team" in text]
    assert "billing" in after["definitions.json"]


def test_a_folder_with_secrets_of_unknown_users_is_refused(access, folder):
    """To write it anew would remove them."""
    access(*FIRST)
    (folder / "deployment.json").unlink()
    before = contents(folder)
    refused = access("--team", "audit")
    assert 2 == refused.exit_code
    assert "no deployment.json" in refused.output
    assert before == contents(folder)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--rabbitmq-url", "rabbit:5672"), "--rabbitmq-url: URL scheme should be 'amqp' or 'amqps'"),
        (("--redis-url", "http://x"), "--redis-url: URL scheme should be 'redis' or 'rediss'"),
        (("--rabbitmq-url", "amqp://me:hunter2@rabbitmq/"), "--rabbitmq-url: it has a user or a password"),
        (("--redis-url", "redis://:hunter2@redis/0"), "--redis-url: it has a user or a password"),
        (("--namespace", "Acme"), "--namespace"),
        (("--team", "acme-gateway"), "'acme-gateway' is taken"),
        (("--processor", "acme-tracker:cpu"), "'acme-tracker' is taken"),
        (("--team", "gpu-team"), "'gpu-team' is taken"),
        (("--team", "default"), "'default' is taken"),
        (("--team", "Audit"), "'Audit' can't name a user"),
        (("--team", "audit", "--team", "audit:job.failed.#"), "--team: it names 'audit' twice"),
        (("--team", "audit:job.sucess.#"), "no event fits the binding key 'job.sucess.#'"),
        (("--team", "audit:"), "no event fits the binding key ''"),
        (("--processor", "cpu-team"), "write cpu-team:QUEUE"),
        (("--processor", "cpu-team:cpu+"), "write cpu-team:QUEUE"),
        (("--remove", "acme-gateway"), "there is no user 'acme-gateway' to remove"),
    ],
)
def test_an_invalid_argument_is_one_sentence_and_nothing_is_written(access, folder, words, sentence):
    """With exit code 2."""
    access(*FIRST)
    before = contents(folder)
    refused = access(*words)
    assert 2 == refused.exit_code
    (error,) = [line for line in refused.output.splitlines() if line.startswith("Error: ")]
    assert sentence in error
    assert "hunter2" not in error
    assert before == contents(folder)


def test_a_folder_that_can_not_be_made_is_one_sentence(access, folder):
    """It says why."""
    folder.write_text("a file")
    refused = access("--folder", str(folder / "access"))
    assert 2 == refused.exit_code
    assert "can't be used: Not a directory" in refused.output
