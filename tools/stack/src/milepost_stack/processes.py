"""Child processes that may outlive the command that started them: started, found again, ended by id and age."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from milepost_stack.errors import StartFailed
from milepost_stack.state import ProcessState

SOON, STOP_WITHIN = 2.0, 45.0
"""Seconds after SIGTERM: until it is said that it takes longer, and until SIGKILL; longer than a processor's drain."""
KILLED_WITHIN = 5.0
TAIL = 20

PREFIX = "MILEPOST_"

# Python complains about a child that is forgotten while it runs; ours may outlive us, and are remembered till then.
_children: dict[int, psutil.Popen] = {}


def configures(name: str) -> bool:
    """Whether a variable says how a service is to run."""
    return name == "PYTHONPATH" or name.startswith(PREFIX)


def _neutral(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what a process is configured with: whoever restarts it must not change that by the way."""
    return {name: value for name, value in environment.items() if not configures(name)}


def start(process: ProcessState, *, stdin: int = subprocess.DEVNULL) -> psutil.Popen:
    """Start the process in a session of its own, its output appended to its log; notes pid and age in `process`."""
    with process.log.open("ab") as log:
        child = psutil.Popen(
            process.command,
            env={**_neutral(os.environ), **process.environment},
            cwd=process.folder,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    process.pid = child.pid
    process.created = child.create_time()
    return child


def find(process: ProcessState) -> psutil.Process | None:
    """Return the running process, or nothing if it has ended."""
    reap()
    try:
        found = psutil.Process(process.pid)
        if found.create_time() != process.created or found.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def reap() -> None:
    """Take note of children of ours that have ended: until then their ids live on."""
    for child in list(_children.values()):
        child.poll()


def stop(process: ProcessState, *, waiting: Callable[[], None] = lambda: None) -> bool:
    """Ask the process to end, and make it after a while; return whether it ended by itself.

    `waiting` is called if it takes longer than a moment.
    """
    found = find(process)
    if found is None:
        return True
    descendants = found.children(recursive=True)
    found.terminate()
    willing = _gone(process, SOON)
    if not willing:
        waiting()
        willing = _gone(process, STOP_WITHIN - SOON)
    if not willing:
        found.kill()
        _gone(process, KILLED_WITHIN)
    for one in psutil.wait_procs(descendants, timeout=KILLED_WITHIN)[1]:
        one.kill()
    return willing


def _gone(process: ProcessState, within: float) -> bool:
    """Wait for the process to end. A zombie has ended: its parent, perhaps another command, has yet to notice."""
    deadline = time.monotonic() + within
    while find(process) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


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
