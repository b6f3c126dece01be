"""The examples, run as they are with a complete stack."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from waiting import wait_until

from milepost_client.testing import FakeGateway
from milepost_stack.free_ports import any_port

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def environment(url, rabbitmq_url):
    return {**os.environ, "MILEPOST_URL": url, "MILEPOST_RABBITMQ_URL": rabbitmq_url}


@pytest.fixture
def run(environment):
    """Run an example; return the lines that it prints."""

    def ran(name, *arguments):
        command = [sys.executable, EXAMPLES / name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout.splitlines()

    return ran


@pytest.fixture
def app(environment):
    """Serve an example that is an ASGI app; return a client of it."""
    served = []

    def started(name):
        port = str(any_port())
        command = [sys.executable, "-m", "uvicorn", f"{name}:app", "--app-dir", EXAMPLES, "--port", port]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        served.append((process, client))
        wait_until(lambda: answers(client), within=30, what=f"{name} is served")
        return client

    yield started
    for process, client in served:
        client.close()
        process.terminate()
        process.wait(10)


def answers(client):
    try:
        return client.get("/openapi.json").is_success
    except httpx.TransportError:
        return False


def test_the_upload_example_streams_the_progress_of_each_file(run):
    """It prints each file's name while it is read, and their number in the end."""
    lines = run("uploads.py", str(EXAMPLES / "loop.py"), str(EXAMPLES / "poll.html"))
    assert "2 files" == lines[-1]


def test_the_stream_example_submits_and_streams_in_one_request(run):
    """From the snapshot to the end."""
    lines = run("stream.py")
    assert "dev.milepost.job.succeeded.v1 100.0" == lines[-1]
    assert len(lines) > 1


def test_the_websocket_example_receives_events_and_cancels(run):
    """The last frame is the job's cancellation."""
    assert run("websocket.py")[-1].startswith("dev.milepost.job.canceled.v1")


def test_the_crunch_example_returns_a_result_by_its_token(app):
    """202 until there is a result; 404 for an unknown token."""
    client = app("crunch")
    token = client.post("/crunch", params={"limit": 1_000}).json()["token"]
    answer = wait_until(
        lambda: (found := client.get(f"/result/{token}")).status_code != 202 and found, within=30, what="it has ended"
    )
    assert (200, 168) == (answer.status_code, answer.json()["count"])
    assert 404 == client.get("/result/0000").status_code


def test_the_embed_example_creates_one_job_per_order(app, url):
    """A repeated request returns the same job, with its location."""
    client = app("embed")
    first, second = (client.post("/orders/17/invoice") for _ in range(2))
    assert (202, first.json()) == (first.status_code, second.json())
    location = first.headers["location"]
    tags = wait_until(lambda: httpx.get(location).json()["tags"], within=10, what="a tracker has seen it")
    assert ["invoices"] == tags


@pytest.fixture
async def billing(connection):
    """Delete the queue of the reactor example after the test."""
    yield
    channel = await connection.channel()
    await channel.queue_delete("billing.milepost")


async def test_the_reactor_example_receives_succeeded_jobs(environment, client, billing):
    """From a queue of its own, which it declares before the job is submitted."""
    command = [sys.executable, EXAMPLES / "reactor.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: ASYNC220
        try:
            assert "listening\n" == process.stdout.readline()
            handle = client.submit("echo", {"text": "received"})
            line = ""
            while handle.id not in line:  # the test's time-out ends it at the latest
                line = process.stdout.readline()
            assert {"text": "received"} == json.loads(line.split(" ", 3)[3])
        finally:
            process.terminate()


def test_the_loop_example_reports_its_progress(milepost_run, monkeypatch, capsys):
    """Its handler runs in-process, and its client with a fake gateway."""
    spec = importlib.util.spec_from_file_location("loop", EXAMPLES / "loop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outcome = milepost_run(module.loop, {"steps": 4, "pause": 0})
    assert ("done", [0, 25, 50, 75, 100]) == (outcome.result, [one.percent for one in outcome.progress])
    gateway = FakeGateway()
    gateway.handle("loop", lambda params, report: report(params["steps"] / 2, params["steps"]) or "done")
    monkeypatch.setattr(module, "Client", gateway.client)
    module.main()
    printed = capsys.readouterr().out.splitlines()
    assert ("50 % running", "done") == (printed[0], printed[-1])
