"""Jobs whose processor is killed or stopped."""

import pytest
from waiting import wait_until

from milepost_stack import processes


@pytest.fixture
def processor_of(stack):
    """Find the process that runs a job; processors that a test has ended are restarted after it."""

    def find(document):
        pid = int(document.worker.split("-")[-2])
        return next(process for process in stack.state.processes if process.pid == pid)

    yield find
    for process in stack.state.processes:
        if processes.find(process) is None:
            stack.restart(process.name)


def running(handle):
    handle.refresh()
    return handle.document.status == "running" and handle.document.progress is not None


def test_a_job_whose_processor_is_killed_runs_again_and_succeeds(client, processor_of):
    """Kill -9: the broker redelivers the job to another processor, as its second attempt."""
    handle = client.submit("count", {"steps": 40, "delay": 0.1})
    wait_until(lambda: running(handle), within=15, what="the job runs")
    first = handle.document
    processes.find(processor_of(first)).kill()
    last = handle.wait(timeout=60)
    print(f"kill -9: attempt {first.attempt} on {first.worker}, then attempt {last.attempt}: {last.status}")
    assert ("succeeded", 2, {"counted": 40}) == (last.status, last.attempt, last.result)
    assert first.worker != last.worker
    assert last.version > first.version


def test_a_processor_that_is_asked_to_stop_finishes_its_running_job(client, processor_of):
    """SIGTERM: no job is started, and the running job ends as its first attempt."""
    handle = client.submit("count", {"steps": 40, "delay": 0.1})
    wait_until(lambda: running(handle), within=15, what="the job runs")
    assert processes.stop(processor_of(handle.document))
    last = handle.wait(timeout=60)
    assert ("succeeded", 1) == (last.status, last.attempt)
