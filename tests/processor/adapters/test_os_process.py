"""What a handler does to its process: children that it forks, threads that it leaves, and the end despite of them."""

import re
import signal
import subprocess
import sys

import psutil
import pytest

START = """
import multiprocessing, os, signal, socket, sys, threading, time
from datetime import timedelta
from milepost_processor.adapters import os_process
from milepost_processor.adapters.os_process import *
"""


def run(code):
    """Run code in a process of its own, since it changes signals and forks."""
    return subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, check=False, timeout=30)


def succeeds(code):
    done = run(code)
    assert 0 == done.returncode, done.stderr


def test_a_forked_child_can_be_terminated():
    """It has the default signal handlers, not the processor's, which wait for jobs to end."""
    succeeds(
        """
StopSignals()
disinherit_children([])
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
child.terminate()
child.join(10)
assert child.exitcode == -signal.SIGTERM, child.exitcode
"""
    )


def test_a_forked_child_does_not_hold_the_sockets_to_the_servers():
    """RabbitMQ would not notice that the processor was killed, and the next one could not listen on its port."""
    succeeds(
        """
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
other = socket.create_server(("127.0.0.1", 0))
ours = socket.create_connection(("127.0.0.1", port))
accepted, _ = server.accept()
theirs = socket.create_connection(other.getsockname())
disinherit_children([port])
child = os.fork()
if not child:
    def is_socket(one):
        return os.path.realpath(f"/proc/self/fd/{one.fileno()}") != os.devnull
    os._exit(0 if [is_socket(one) for one in (server, ours, theirs)] == [False, False, True] else 1)
assert os.waitpid(child, 0)[1] == 0
ours.sendall(b"x")
assert accepted.recv(1) == b"x", "the parent's own goes on"
"""
    )


@pytest.mark.parametrize(
    "hang",
    [
        "threading.Thread(target=threading.Event().wait).start()",
        "import atexit; atexit.register(threading.Event().wait)",
    ],
)
def test_the_process_ends_in_time_whatever_hangs(hang):
    """A thread that is no daemon, or an exit handler."""
    done = run(f"{hang}\nend_within(timedelta(seconds=0.2), 3)\nsys.exit(3)")
    assert 3 == done.returncode
    assert "exit_forced" in done.stdout


def test_the_process_ends_in_time_although_a_handler_holds_the_interpreter():
    """No thread of Python can run: the kernel ends it."""
    done = run(
        """
os_process.CHILDREN_GRACE = os_process._LAST_RESORT = 0.1
end_within(timedelta(seconds=0.1), 0)
import re
re.match(r"(a+)+$", "a" * 60 + "b")
"""
    )
    assert -signal.SIGALRM == done.returncode


@pytest.mark.parametrize("end", ["crash()", "end_within(timedelta(seconds=0.1), 1); sys.exit(1)"])
def test_children_end_with_the_process(end):
    """Those that handlers started with `multiprocessing`, also if they ignore SIGTERM."""
    done = run(
        f"""
os_process.CHILDREN_GRACE = 0.2
def stay(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(60)
ready = multiprocessing.get_context("fork").Event()
child = multiprocessing.get_context("fork").Process(target=stay, args=(ready,))
child.start()
ready.wait()
print("child", child.pid, flush=True)
{end}
"""
    )
    assert 1 == done.returncode, done.stderr
    assert not psutil.pid_exists(int(re.search(r"child (\d+)", done.stdout)[1]))


def test_a_signal_is_received_while_and_before_it_is_awaited():
    """Both SIGTERM and SIGINT; a main thread that does not wait for them counts as stuck."""
    succeeds(
        """
stop = StopSignals()
assert not stop.wait(0)
os.kill(os.getpid(), signal.SIGINT)
assert stop.wait(10) and stop.wait(10) and stop.is_awaited
stop = StopSignals()
os_process.MAIN_THREAD_TIMEOUT = 0
assert not stop.is_awaited
threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
assert stop.wait(10) and stop.is_awaited
"""
    )


def test_the_error_that_ends_a_thread_is_logged():
    """`sys.stderr` may be closed."""
    done = run(
        """
log_thread_errors()
sys.stderr.close()
thread = threading.Thread(target=lambda: 1 / 0, name="t1")
thread.start()
thread.join()
"""
    )
    assert "thread_failed" in done.stdout
    assert "ZeroDivisionError" in done.stdout
