"""The `stack` command, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from waiting import wait_until

from milepost_stack.rabbitmq import CONSUMER_TIMEOUT

BIN = Path(sys.executable).parent


@pytest.fixture
def command(tmp_path):
    """Run the command in an empty folder."""

    def run(*words, expect=0, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")} | more
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert expect == done.returncode, done.stdout + done.stderr
        return done

    yield run
    remaining = [process for process in psutil.process_iter() if str(tmp_path) in _environment_of(process)]
    assert [] == remaining


def _environment_of(process):
    try:
        return " ".join([*process.environ().values(), *process.cmdline()])
    except psutil.Error:
        return ""


def test_a_stack_is_started_inspected_restarted_and_stopped(command, stack):
    """While the session's stack runs: two stacks do not affect each other."""
    command("stack", "up", "--detach", "--port", "0", "--processors", "1", "--trackers", "2")
    shown = json.loads(command("stack", "status", "--json").stdout)
    names = ["redis", "epmd", "rabbitmq", "tracker-1", "tracker-2", "gateway-1", "processor-1"]
    assert names == [process["name"] for process in shown["processes"]]
    assert {"url", "rabbitmq_url", "redis_url", "processes"} == set(shown)
    assert shown["url"] != stack.state.url
    assert all(psutil.pid_exists(process["pid"]) and Path(process["log"]).exists() for process in shown["processes"])

    assert "is up already" in command("stack", "up", "--detach", expect=1).stderr
    assert "tracker_started" in command("stack", "logs", "tracker-2").stdout
    assert "has no process 'tracker-9'" in command("stack", "restart", "tracker-9", expect=1).stderr

    before = {process["name"]: process["pid"] for process in shown["processes"]}
    command("stack", "restart", "processor-1")
    after = {p["name"]: p["pid"] for p in json.loads(command("stack", "status", "--json").stdout)["processes"]}
    assert {"processor-1"} == {name for name in before if before[name] != after[name]}
    job = command("milepost", "--help") and command(
        "milepost", "submit", "echo", "text=hi", "--watch", "--json", "--url", shown["url"]
    )
    assert {"text": "hi"} == json.loads(job.stdout)["result"]

    command("stack", "down")
    wait_until(lambda: not any(map(psutil.pid_exists, after.values())), within=10, what="no process is left")
    assert "there is no stack 'default'" in command("stack", "status", expect=1).stderr


def test_stack_run_starts_a_stack_for_one_command(command, tmp_path):
    """The demo uses it: it starts the stack, runs the command, stops the stack, and exits with the command's code."""
    (tmp_path / "a.txt").write_text("one two\n")
    done = command("stack", "run", "--", str(BIN / "milepost"), "submit", "digest-files", "--file", "a.txt", "--watch")
    assert '"words": 2' in done.stdout
    assert "succeeded" in done.stderr


def test_stack_run_exits_with_the_code_of_its_command(command, stack, namespace):
    """Here with servers that run already."""
    settings = {
        "MILEPOST_RABBITMQ_URL": stack.state.rabbitmq_url,
        "MILEPOST_REDIS_URL": stack.state.redis_url,
        "MILEPOST_NAMESPACE": namespace,
        "MILEPOST_CONSUMER_TIMEOUT": str(CONSUMER_TIMEOUT),
    }
    command("stack", "run", "--", str(BIN / "milepost"), "status", "unknown", expect=4, **settings)


def test_a_foreground_stack_restarts_crashed_processes_and_ends_with_stack_down(command, tmp_path):
    """'stack restart' elsewhere is no crash; a crashed process is restarted; 'stack down' ends it with code 0."""

    def state():
        return json.loads(command("stack", "status", "--json").stdout)

    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
    foreground = subprocess.Popen(
        [BIN / "stack", "up", "--port", "0", "--gateways", "0", "--processors", "0"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: "Ctrl-C" in foreground.stderr.readline(), within=90, what="it is up")
        command("stack", "restart", "tracker-1")
        assert foreground.poll() is None
        tracker = next(one for one in state()["processes"] if one["name"] == "tracker-1")
        os.kill(tracker["pid"], signal.SIGKILL)
        wait_until(lambda: "is started again" in foreground.stderr.readline(), within=10, what="it is started again")
        command("stack", "down")
        assert 0 == foreground.wait(30)
        assert "stopped by another command" in foreground.stderr.read()
    finally:
        foreground.terminate()
        foreground.wait(60)
        foreground.stderr.close()


def test_a_failed_start_shows_the_log_and_stops_everything(command, tmp_path, monkeypatch):
    """If a service refuses a setting, its error is shown and all processes are stopped."""
    monkeypatch.setenv("PATH", os.environ["PATH"])
    done = subprocess.run(
        [BIN / "stack", "up", "--detach", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "MILEPOST_HANDLERS": "no.such.module"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert 1 == done.returncode
    assert "processor-1 ended while it started" in done.stderr
    assert "no.such.module" in done.stderr


def test_a_stack_keeps_its_access_file_over_a_restart(command, tmp_path):
    """A restart from a shell without the variable must not turn authentication off."""
    file = tmp_path / "access.json"
    key = subprocess.run(
        [BIN / "milepost", "keys", "create", "--file", file], check=True, capture_output=True, text=True
    ).stdout.strip()
    command("stack", "up", "--detach", "--port", "0", MILEPOST_ACCESS_FILE=str(file))
    try:
        url = json.loads(command("stack", "status", "--json").stdout)["url"]
        for _ in range(2):
            assert 401 == httpx.get(f"{url}/v1/jobs").status_code
            assert 200 == httpx.get(f"{url}/v1/jobs", headers={"X-API-Key": key}).status_code
            command("stack", "restart", "gateway-1")
    finally:
        command("stack", "down")
