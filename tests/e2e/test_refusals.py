"""A service that can't work with its configuration reports it in one sentence and exits with 2."""

import os
import subprocess
import sys

import pytest

KEYS = {"MILEPOST_ID_KEYS": "1:" + "ab" * 32}


def start(service, settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
    return subprocess.run(
        [sys.executable, "-m", f"milepost_{service}"],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    "service, settings, error",
    [
        ("gateway", {}, "MILEPOST_ID_KEYS"),
        ("gateway", {"MILEPOST_ID_KEYS": "1:00"}, "MILEPOST_ID_KEYS"),
        ("gateway", {**KEYS, "MILEPOST_MAX_UPLOAD": "2000"}, "MILEPOST_MAX_BODY"),
        ("gateway", KEYS, "MILEPOST_GATEWAY_USERS does not name 'guest'"),
        ("tracker", {}, "MILEPOST_ID_KEYS"),
        ("tracker", KEYS, "MILEPOST_TRACKER_USERS does not name 'guest'"),
        ("processor", {"MILEPOST_HANDLERS": "milepost_basics"}, "MILEPOST_PROCESSOR_USERS does not name 'guest'"),
        ("processor", {"MILEPOST_PROCESSOR_USERS": "guest:CPU"}, "MILEPOST_PROCESSOR_USERS"),
        ("tracker", {**KEYS, "MILEPOST_PREFETCH": "1", "MILEPOST_BATCH_SIZE": "2"}, "MILEPOST_BATCH_SIZE"),
        ("processor", {"MILEPOST_HANDLERS": "no.such.module"}, "'no.such.module' can't be imported"),
        ("processor", {"MILEPOST_HANDLERS": "json"}, "'json' defines no job"),
        ("processor", {"MILEPOST_QUEUES": "cpuu"}, "'cpuu'"),
        ("processor", {"MILEPOST_THREADS": "0"}, "MILEPOST_THREADS"),
        ("processor", {"MILEPOST_BLOBS_URL": "nonsense"}, "MILEPOST_BLOBS_URL"),
        ("gateway", {**KEYS, "MILEPOST_BLOBS_URL": "nonsense"}, "MILEPOST_BLOBS_URL"),
        ("tracker", {"MILEPOST_HEALTH_HOST": "300.1.1.1"}, "MILEPOST_HEALTH_HOST"),
        ("processor", {"MILEPOST_HEALTH_HOST": "300.1.1.1"}, "MILEPOST_HEALTH_HOST"),
        ("processor", {"MILEPOST_RABBITMQ_URL": "http://x"}, "MILEPOST_RABBITMQ_URL"),
    ],
)
def test_an_invalid_configuration_exits_with_code_2(service, settings, error):
    """With one sentence and no traceback."""
    done = start(service, settings)
    assert 2 == done.returncode, done.stderr
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert 1 == len([line for line in done.stderr.splitlines() if not line.startswith("{")]), "one line besides the log"


@pytest.mark.parametrize("service", ["gateway", "tracker", "processor"])
def test_every_service_has_a_help_text(service):
    """`--help` needs no settings."""
    done = subprocess.run(
        [sys.executable, "-m", f"milepost_{service}", "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    assert 0 == done.returncode
    assert f"milepost-{service}" in done.stdout
