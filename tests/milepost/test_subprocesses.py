"""`Run.subprocess`: programs that end with their job."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel
from waiting import wait_until

from milepost import Canceled, Run, job, subprocesses
from milepost.testing import run_handler, run_job

SLEEPERS = "sleep 600 & echo $! $$; sleep 600"
"""A shell with a child: it prints the ids of both."""


class Nothing(BaseModel):
    """No params."""


@pytest.fixture
def run():
    return Run(job_id="1")


def is_alive(process_id):
    """Whether the process runs. One that was killed may still wait for its parent to take notice."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_ended(process_ids):
    wait_until(lambda: not any(map(is_alive, process_ids)), within=10, what="no process is left")


def test_the_exit_code_and_the_outputs_are_returned(run):
    """As by `subprocess.run`, with standard output and standard error apart."""
    completed = run.subprocess(
        'cat; echo "$GREETING" >&2; pwd; exit 3', shell=True, input="in\n", cwd="/", env={"GREETING": "hello"}
    )
    assert (3, "in\n/\n", "hello\n") == (completed.returncode, completed.stdout, completed.stderr)
    assert "" == run.subprocess(["cat"]).stdout, "without input, there is nothing to read"


def test_check_raises_with_the_end_of_the_output(run):
    """The job's error says what the program said."""
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run.subprocess("echo no such table >&2; exit 3", shell=True, check=True)
    assert (3, ["no such table\n"]) == (raised.value.returncode, raised.value.__notes__)
    assert 0 == run.subprocess(["true"], check=True).returncode


def test_a_program_that_does_not_exist_raises(run):
    """As in `subprocess.run`."""
    with pytest.raises(FileNotFoundError):
        run.subprocess(["no-such-program"])


def test_each_line_is_passed_on(run):
    """Of both outputs; a carriage return ends a line too, and the last line needs no end."""
    lines = []
    run.subprocess(r"printf 'one\r\n1%%\r2%%\r'; printf 'last'", shell=True, on_line=lines.append)
    run.subprocess("echo error >&2", shell=True, on_line=lines.append)
    assert ["one", "1%", "2%", "last", "error"] == lines


@pytest.mark.parametrize(
    "chunks, lines",
    [
        ([b"a\r", b"\nb\n"], ["a", "b"]),
        ([b"a\r", b"b\n"], ["a", "b"]),
        ([b"a", b"b", b"\n\n"], ["ab", ""]),
        ([b"\xe2\x82", b"\xac\n\xff\n"], ["€", "�"]),
        ([b"x" * (subprocesses.MAX_LINE + 1)], ["x" * subprocesses.MAX_LINE, "x"]),
    ],
)
def test_lines_are_split_wherever_the_chunks_end(chunks, lines):
    """The pipe decides where they do."""
    got = []
    output = subprocesses._Output(got.append)
    for chunk in chunks:
        output.feed(chunk)
    output.finish()
    assert lines == got


def test_only_the_end_of_a_large_output_is_kept(run):
    """A program may write without limit; the memory that it takes here is bounded."""
    completed = run.subprocess([sys.executable, "-c", "print('x' * 10_000_000 + 'end')"])
    assert subprocesses.MAX_OUTPUT == len(completed.stdout)
    assert completed.stdout.endswith("xend\n")


def test_a_stop_ends_the_program_and_its_children(run):
    """The call raises what stopped the run, after the processes have ended."""
    ids = []

    def stop(line):
        ids.extend(map(int, line.split()))
        run.stop(Canceled())

    with pytest.raises(Canceled):
        run.subprocess(SLEEPERS, shell=True, on_line=stop)
    assert_ended(ids)


def test_a_program_that_ignores_the_signal_is_killed(run, monkeypatch):
    """Its children are killed too."""
    monkeypatch.setattr(subprocesses, "GRACE", 0.2)
    ids = []

    def stop(line):
        ids.extend(map(int, line.split()))
        run.stop(Canceled())

    with pytest.raises(Canceled):
        run.subprocess(f"trap '' TERM; {SLEEPERS}", shell=True, on_line=stop)
    assert_ended(ids)


def test_an_exception_in_the_thread_during_the_grace_time_kills_the_program(run, tmp_path):
    """The processor forces handlers that take too long to stop."""
    ids, raised, told = [], [], tmp_path / "told"

    class Forced(BaseException):
        pass

    def stop(line):
        ids.append(int(line))
        run.stop(Canceled())

    def handle():
        try:
            script = f"trap 'touch {told}' TERM; echo $$; while true; do sleep 0.01; done"
            run.subprocess(script, shell=True, on_line=stop)
        except Forced as error:
            raised.append(type(error))

    thread = threading.Thread(target=handle)
    thread.start()
    wait_until(told.exists, within=10, what="the program was told to end")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Forced))
    thread.join(subprocesses.GRACE - 1)
    assert_ended(ids)
    assert [Forced] == raised


def test_a_program_may_tidy_up_after_the_signal(run, tmp_path):
    """SIGTERM comes first, and a child that holds an output is waited for."""
    script = f"trap 'echo tidy > {tmp_path}/done; exit' TERM; echo ready; while true; do sleep 0.01; done"
    with pytest.raises(Canceled):
        run.subprocess(f"({script}) & wait", shell=True, on_line=lambda line: run.stop(Canceled()))
    assert "tidy\n" == (tmp_path / "done").read_text()


def test_what_on_line_raises_ends_the_program(run):
    """The handler may look for an error in the output, or report progress and be stopped by it."""
    ids = []

    def refuse(line):
        ids.extend(map(int, line.split()))
        raise ValueError(line)

    with pytest.raises(ValueError, match=r"\d+"):
        run.subprocess(SLEEPERS, shell=True, on_line=refuse)
    assert_ended(ids)


def test_children_that_a_program_leaves_running_are_ended(run):
    """With the call, whether they hold its outputs or not."""
    held = run.subprocess("sleep 600 & echo $!", shell=True)
    silent = run.subprocess("sleep 600 >/dev/null 2>&1 & echo $!", shell=True)
    assert_ended([int(held.stdout), int(silent.stdout)])


def test_nothing_is_started_after_a_stop(run):
    """The call is a checkpoint."""
    run.stop(Canceled())
    with pytest.raises(Canceled):
        run.subprocess(["true"])


def test_closing_the_run_ends_what_the_handler_left_on_a_thread(run):
    """The handler has returned; the processor closes the run."""
    ids, raised, started = [], [], threading.Event()

    def on_line(line):
        ids.extend(map(int, line.split()))
        started.set()

    def program():
        try:
            run.subprocess(SLEEPERS, shell=True, on_line=on_line)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=program)
    thread.start()
    assert started.wait(10)
    run.close()
    assert_ended(ids)
    thread.join()
    assert "the handler has ended" in str(raised[0])
    with pytest.raises(RuntimeError, match="has ended"):
        run.subprocess(["true"])


async def test_an_async_handler_awaits_a_program(run):
    """The event loop goes on meanwhile."""
    first, second = await asyncio.gather(run.subprocess_async(["echo", "1"]), run.subprocess_async(["echo", "2"]))
    assert ("1\n", "2\n") == (first.stdout, second.stdout)
    with pytest.raises(subprocess.CalledProcessError):
        await run.subprocess_async(["false"], check=True)


async def test_a_stop_ends_the_program_of_an_async_handler(run):
    """`RunStopped` is raised in the task."""
    with pytest.raises(Canceled):
        await run.subprocess_async(SLEEPERS, shell=True, on_line=lambda line: run.stop(Canceled()))


async def test_cancelling_the_task_ends_its_program(run):
    """For example by a timeout of the handler's own; the processes have ended when it is raised."""
    ids, started, loop = [], asyncio.Event(), asyncio.get_running_loop()

    def on_line(line):
        ids.extend(map(int, line.split()))
        loop.call_soon_threadsafe(started.set)

    task = asyncio.create_task(run.subprocess_async(SLEEPERS, shell=True, on_line=on_line))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_ended(ids)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_program_ends_if_this_process_is_killed():
    """By `kill -9`, even if a forked child of it lives on."""
    script = f"""
import os, time
from milepost import Run

def started(line):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(line, child, flush=True)

Run(job_id="1").subprocess({SLEEPERS!r}, shell=True, on_line=started)
"""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        *ids, forked = map(int, process.stdout.readline().split())
        try:
            assert [True, True] == [is_alive(one) for one in ids]
            process.kill()
            assert_ended(ids)
        finally:
            os.kill(forked, signal.SIGKILL)


@job("program")
def program(params: Nothing, run: Run) -> str:
    """Report each line of a program as progress."""
    lines = 0

    def report(line):
        nonlocal lines
        lines += 1
        run.progress(lines, 3, line)

    return run.subprocess("echo one; echo two; echo three", shell=True, on_line=report).stdout


def test_the_test_kit_runs_programs():
    """Progress is recorded, and a cancel or an interruption stops the program."""
    assert ["one", "two", "three"] == [one.message for one in run_handler(program, {}).progress]
    assert "canceled" == run_job(program, {}, cancel_at=1).status
    assert ["interrupted", "succeeded"] == run_job(program, {}, interrupt_at=1).attempts


def test_the_test_kit_ends_what_a_handler_leaves_on_a_thread():
    """As a processor does."""
    threads = []

    @job("leaves")
    def leave(params: Nothing, run: Run) -> None:
        started = threading.Event()
        options = {"shell": True, "on_line": lambda line: started.set()}
        threads.append(threading.Thread(target=swallow, args=(run.subprocess, SLEEPERS), kwargs=options))
        threads[0].start()
        assert started.wait(10)

    def swallow(call, *args, **options):
        with pytest.raises(RuntimeError):
            call(*args, **options)

    run_handler(leave, {})
    threads[0].join(10)
    assert not threads[0].is_alive()
