"""A forced handler that waits for a process or its output goes on, because the process is ended."""

import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import wait_until

from milepost_processor.adapters import handler_processes
from milepost_processor.adapters.handler_processes import end_processes_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="does nothing elsewhere")


@pytest.fixture
def script(tmp_path):
    """A command for a shell with a child; it writes the ids of both to a file."""
    return f"sleep 600 & echo $! $$ > {tmp_path}/ids.part; mv {tmp_path}/ids.part {tmp_path}/ids; wait"


@pytest.fixture
def ids(tmp_path):
    """Return a function that waits for the ids."""
    path = tmp_path / "ids"
    return lambda: [
        int(one) for one in wait_until(lambda: path.exists() and path.read_text().split(), within=10, what="it runs")
    ]


def is_alive(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def waiting_in(call, *args, **options):
    """Call it on a thread, as a handler is."""
    thread = threading.Thread(target=call, args=args, kwargs=options, daemon=True)
    thread.start()
    return thread


def end(thread):
    """End what the thread waits for as soon as it does; the thread goes on then."""
    wait_until(lambda: handler_processes._used_by(thread.ident), within=10, what="it waits for the process")
    end_processes_of(thread.ident)
    thread.join(10)
    assert not thread.is_alive()


def assert_ended(process_ids):
    wait_until(lambda: not any(map(is_alive, process_ids)), within=10, what="no process is left")


@pytest.mark.parametrize("options", [{}, {"capture_output": True}, {"input": b"x"}, {"timeout": 600}], ids=str)
def test_subprocess_run_returns(script, ids, options):
    """Its process and that one's children get SIGTERM."""
    thread = waiting_in(subprocess.run, script, shell=True, check=False, **options)
    started = ids()
    end(thread)
    assert_ended(started)


def test_a_process_that_ignores_the_signal_is_killed(script, ids, monkeypatch):
    """After a moment."""
    monkeypatch.setattr(handler_processes, "GRACE", 0.1)
    thread = waiting_in(subprocess.run, f"trap '' TERM; {script}", shell=True, check=False)
    started = ids()
    end(thread)
    assert_ended(started)


def test_a_process_that_is_about_to_start_has_no_id_yet():
    """It is ended the next time that its handler is forced."""
    unstarted = subprocess.Popen.__new__(subprocess.Popen)
    unstarted.pid = unstarted.returncode = None
    end_processes_of(threading.get_ident())


def test_a_process_of_multiprocessing_is_ended():
    """`join` returns."""
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    process.start()
    end(waiting_in(process.join))
    assert process.exitcode != 0


def test_a_handler_that_reads_the_output_of_a_process_goes_on(script, ids):
    """It is in no call of `subprocess`; a local variable refers to the process."""

    def read():
        with subprocess.Popen(["sh", "-c", f"echo first; {script}"], stdout=subprocess.PIPE) as process:
            lines.extend(process.stdout)

    lines = []
    thread = waiting_in(read)
    started = ids()
    end(thread)
    assert_ended(started)
    assert [b"first\n"] == lines


SHARED = []


def test_other_children_are_not_ended():
    """Another job may use a process that no local variable of this handler refers to."""
    waits, ends = threading.Event(), threading.Event()

    def handle():
        SHARED.append(subprocess.Popen(["sleep", "600"]))
        waits.set()
        ends.wait()

    thread = waiting_in(handle)
    assert waits.wait(10)
    end_processes_of(thread.ident)
    end_processes_of(0)
    ends.set()
    thread.join(10)
    with SHARED.pop() as process:
        assert process.poll() is None
        process.kill()
