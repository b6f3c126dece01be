"""Child processes that may outlive the command that started them: started, found again, ended by id and age."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from milepost_stack.errors import StartFailed
from milepost_stack.state import ProcessState

STOP_WITHIN = 45.0
"""Seconds between SIGTERM and SIGKILL; longer than a processor's drain."""
TAIL = 20

# Python complains about a child that is forgotten while it runs; ours may outlive us, and are remembered till then.
_children: dict[int, psutil.Popen] = {}


def start(process: ProcessState) -> None:
    """Start the process in a session of its own, its output appended to its log; notes pid and age in `process`."""
    with process.log.open("ab") as log:
        child = psutil.Popen(
            process.command,
            env={**os.environ, **process.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    process.pid = child.pid
    process.created = child.create_time()


def find(process: ProcessState) -> psutil.Process | None:
    """Return the running process, or nothing if it has ended."""
    try:
        found = psutil.Process(process.pid)
        if found.create_time() != process.created or found.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def stop(process: ProcessState) -> bool:
    """Ask the process to end, and make it after a while; return whether it ended by itself."""
    found = find(process)
    child = _children.pop(process.pid, None)
    if found is None:
        if child is not None:
            child.wait()
        return True
    if child is not None:
        found = child  # its exit code goes where Python looks for it
    children = found.children(recursive=True)
    found.terminate()
    _, alive = psutil.wait_procs([found], timeout=STOP_WITHIN)
    for one in alive:
        one.kill()
    _, left = psutil.wait_procs(children, timeout=5)
    for one in left:
        one.kill()
    psutil.wait_procs([*alive, *left], timeout=5)
    return not alive


def wait_ready(process: ProcessState, ready: Callable[[], bool], within: float) -> None:
    """Wait until `ready` says yes.

    Raises:
        StartFailed: The process ended, or time is over; with the last lines of its log.
    """
    deadline = time.monotonic() + within
    while not ready():
        if find(process) is None:
            raise StartFailed(f"{process.name} ended while it started\n{tail(process.log)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{process.name} was not ready within {within:.0f} s\n{tail(process.log)}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether an HTTP GET is answered with success now."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - only our own loopback URLs come here
            return True
    except (urllib.error.URLError, OSError):
        return False


def tail(log: Path, lines: int = TAIL) -> str:
    """Return the last lines of a log, each behind a bar."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return f"(there is no log at {log})"
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:]) or "  | (the log is empty)"
