"""Deploys: processors of two releases serve one queue side by side, and no accepted job notices."""

import os
import signal
import subprocess
import sys

import pytest
from waiting import wait_until

from milepost_client import Refused

OLD = """
from milepost import Run, job
from pydantic import BaseModel, ConfigDict

class Report(BaseModel):
    model_config = ConfigDict(extra="forbid")
    month: str

@job("report", queue="reports")
def report(params: Report, run: Run) -> str:
    "Report."
    return "old"
"""
NEW = (
    OLD.replace("month: str", "month: str\n    currency: str").replace('"old"', '"new"')
    + """
class Nothing(BaseModel):
    pass

@job("brand-new", queue="reports")
def brand_new(params: Nothing, run: Run) -> str:
    "A type that the old release does not have."
    return "new"
"""
)
PARAMS = {"month": "2026-01", "currency": "EUR"}


@pytest.fixture(scope="module")
def stack(start_stack):
    """A stack without processors: each test starts its own."""
    made = start_stack("deploys", gateways=1, trackers=1)
    yield made
    made.down()


@pytest.fixture
def processor(stack, tmp_path, client):
    """Start a processor of a release, and wait until it is alive; it is stopped after the test at the latest."""
    running = []

    def start(release):
        folder = tmp_path / str(len(running))
        folder.mkdir()
        (folder / "reports.py").write_text(release)
        environment = {
            **os.environ,
            **stack.state.environment_of("processor"),
            "PYTHONPATH": str(folder),
            "MILEPOST_HANDLERS": "reports",
            "MILEPOST_THREADS": "2",
            "MILEPOST_HEALTH_PORT": "0",
        }
        before = instances(client)
        running.append(subprocess.Popen([sys.executable, "-m", "milepost_processor"], env=environment))
        wait_until(lambda: instances(client) - before, within=60, what="the processor is alive")
        return running[-1]

    yield start
    for process in running:
        stop(process)


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def succeed_at_the_new_release(handles):
    for handle in handles:
        done = handle.wait(60)
        assert ("succeeded", "new", 1, 1) == (done.status, done.result, done.attempt, len(done.attempts))


@pytest.mark.parametrize("restarted", [False, True], ids=["old first", "old restarted"])
def test_jobs_of_the_new_release_run_beside_an_old_processor(processor, client, restarted):
    """Jobs of its new type, and jobs with the params of its version of a type. The newest version stays in force."""
    old = processor(OLD)
    new = processor(NEW)
    if restarted:
        stop(old)
        old = processor(OLD)
    wait_until(lambda: "currency" in schema(client)["properties"], within=30, what="the new version applies")
    handles = [client.submit("brand-new") for _ in range(8)] + [client.submit("report", PARAMS) for _ in range(8)]
    with pytest.raises(Refused):
        client.submit("report", {"month": "2026-01"})
    succeed_at_the_new_release(handles)
    stop(old)
    succeed_at_the_new_release([client.submit("report", PARAMS)])
    stop(new)


def instances(client):
    return {one.instance for one in client.processors()}


def schema(client):
    return next(one for one in client.types() if one.type == "report").params_schema
