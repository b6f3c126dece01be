"""A service that can't work with its configuration reports it in one sentence and exits with 2."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {"MILEPOST_ID_KEYS": "1:" + "ab" * 32}
SERVICES = ["gateway", "tracker", "processor"]
GUEST = {"MILEPOST_ALLOW": "guest", **{f"MILEPOST_{one.upper()}_USERS": "guest,u" for one in SERVICES}}
"""RabbitMQ's own user may do everything, as in development."""
SECRET_JOBS = {"MILEPOST_HANDLERS": "secret_jobs", "PYTHONPATH": str(Path(__file__).parent)}

AFTER_LOADING = [
    ("gateway", {**KEYS, "MILEPOST_GATEWAY_USERS": "other"}, "MILEPOST_GATEWAY_USERS does not name 'guest'"),
    ("tracker", {**KEYS, "MILEPOST_TRACKER_USERS": "other"}, "MILEPOST_TRACKER_USERS does not name 'guest'"),
    ("processor", {"MILEPOST_PROCESSOR_USERS": "other"}, "MILEPOST_PROCESSOR_USERS does not name 'guest'"),
    ("processor", {"MILEPOST_HANDLERS": "json"}, "'json' defines no job"),
    ("processor", {"MILEPOST_QUEUES": "cpuu"}, "'cpuu'"),
    ("processor", SECRET_JOBS, "MILEPOST_SEAL_KEYS must be set, as for the gateways: params of fetch are secret"),
    ("tracker", {**KEYS, "MILEPOST_HEALTH_HOST": "300.1.1.1"}, "MILEPOST_HEALTH_HOST"),
    ("processor", {"MILEPOST_HEALTH_HOST": "300.1.1.1"}, "MILEPOST_HEALTH_HOST"),
    ("gateway", {**KEYS, "MILEPOST_HOST": "10.99.99.99", "MILEPOST_OPEN": "true"}, "MILEPOST_HOST"),
    ("processor", {"MILEPOST_PROCESSOR_USERS": "guest:gpu"}, "does not let 'guest' serve the queue cpu"),
    ("processor", {"MILEPOST_CONSUMER_TIMEOUT": "60"}, "Raise it in rabbitmq.conf to consumer_timeout"),
]
"""Services with settings that are valid by themselves and that they can't work with, and a part of the sentence."""
REFUSED = [
    *AFTER_LOADING,
    ("gateway", {}, "MILEPOST_ID_KEYS"),
    ("gateway", {"MILEPOST_ID_KEYS": "1:00"}, "MILEPOST_ID_KEYS"),
    ("gateway", {**KEYS, "MILEPOST_MAX_UPLOAD": "2000"}, "MILEPOST_MAX_BODY"),
    ("tracker", {}, "MILEPOST_ID_KEYS"),
    ("processor", {"MILEPOST_PROCESSOR_USERS": "guest:CPU"}, "MILEPOST_PROCESSOR_USERS"),
    ("tracker", {**KEYS, "MILEPOST_PREFETCH": "1", "MILEPOST_BATCH_SIZE": "2"}, "MILEPOST_BATCH_SIZE"),
    ("processor", {"MILEPOST_HANDLERS": "no.such.module"}, "'no.such.module' can't be imported"),
    ("processor", {**SECRET_JOBS, "MILEPOST_SEAL_KEYS": "1:00"}, "MILEPOST_SEAL_KEYS"),
    ("processor", {"MILEPOST_THREADS": "0"}, "MILEPOST_THREADS"),
    ("processor", {"MILEPOST_BLOBS_URL": "nonsense"}, "MILEPOST_BLOBS_URL"),
    ("gateway", {**KEYS, "MILEPOST_BLOBS_URL": "nonsense"}, "MILEPOST_BLOBS_URL"),
    ("processor", {"MILEPOST_RABBITMQ_URL": "http://x"}, "MILEPOST_RABBITMQ_URL"),
    ("processor", {"MILEPOST_BLOBS_URL": "file:///proc/nope"}, "MILEPOST_BLOBS_URL"),
    ("gateway", {**KEYS, "MILEPOST_BLOBS_URL": "file:///proc/nope"}, "MILEPOST_BLOBS_URL"),
    ("gateway", {**KEYS, "MILEPOST_CORS_ORIGINS": "example.com"}, "MILEPOST_CORS_ORIGINS:"),
    *((one, {**KEYS, "MILEPOST_RABBITMQ_URL": "amqp://"}, "MILEPOST_RABBITMQ_URL") for one in SERVICES),
    *((one, {**KEYS, "MILEPOST_RABBITMQ_URL": "amqp://u@127.0.0.1/"}, "MILEPOST_RABBITMQ_URL") for one in SERVICES),
    *((one, {**KEYS, "MILEPOST_REDIS_URL": "redis://127.0.0.1/x"}, "MILEPOST_REDIS_URL") for one in SERVICES),
    *((one, {**KEYS, "MILEPOST_ALLOW": ""}, "add guest to MILEPOST_ALLOW") for one in SERVICES),
    *((one, {**KEYS, "MILEPOST_THREAD": "3"}, "did you mean MILEPOST_THREADS?") for one in SERVICES),
]


def start(service, settings, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
    return subprocess.run(
        [sys.executable, "-m", f"milepost_{service}", *arguments],
        env={**environment, **GUEST, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("service, settings, error", REFUSED)
def test_an_invalid_configuration_exits_with_code_2(service, settings, error):
    """With one sentence and no traceback."""
    done = start(service, settings)
    assert 2 == done.returncode, done.stderr
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert 1 == len([line for line in done.stderr.splitlines() if not line.startswith("{")]), "one line besides the log"


@pytest.mark.parametrize("service, settings, error", AFTER_LOADING)
def test_a_check_refuses_what_a_start_refuses(service, settings, error):
    """What follows from settings and handlers alone is found before anything is started."""
    done = start(service, settings, "--check")
    assert 2 == done.returncode, done.stdout
    assert error in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "it would start" not in done.stdout


def test_a_taken_port_exits_with_code_2():
    """The sentence names the settings and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start("gateway", {**KEYS, "MILEPOST_PORT": str(taken.getsockname()[1])})
    assert 2 == done.returncode, done.stderr
    assert "milepost: MILEPOST_HOST and MILEPOST_PORT: can't listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_check_without_servers_fails(service):
    """It prints all of it, and which servers fail."""
    nowhere = {"MILEPOST_RABBITMQ_URL": "amqp://u:hunter2@127.0.0.1:1/", "MILEPOST_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = start(service, {**KEYS, **nowhere}, "--check")
    assert 2 == done.returncode
    assert "it would not work: RabbitMQ, Redis failed" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_check_names_everything_that_is_refused():
    """And not only the first, as a start does."""
    settings = {**KEYS, "MILEPOST_RABBITMQ_URL": "amqp://guest:guest@broker.example/", "MILEPOST_PREFECTH": "5"}
    done = start("tracker", {**settings, "MILEPOST_ALLOW": ""}, "--check")
    assert 2 == done.returncode
    assert 4 == len(done.stderr.splitlines())


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_help_text(service):
    """`--help` needs no settings."""
    done = subprocess.run(
        [sys.executable, "-m", f"milepost_{service}", "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    assert 0 == done.returncode
    assert f"milepost-{service}" in done.stdout
