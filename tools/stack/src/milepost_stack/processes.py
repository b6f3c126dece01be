"""Starts, finds and stops child processes that may outlive the command that started them.

A process is identified by its pid and start time.
"""

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

REPORT_WAIT_AFTER, STOP_TIMEOUT = 2.0, 45.0
"""Seconds after SIGTERM: until the wait is reported, and until SIGKILL. Longer than the default drain time-out."""
KILL_TIMEOUT = 5.0
TAIL_LINES = 20

PREFIX = "MILEPOST_"

# Python warns when a running child is garbage-collected. Ours may outlive this process, so a reference is kept.
_children: dict[int, psutil.Popen] = {}


def is_setting(name: str) -> bool:
    """Return whether a variable configures a service."""
    return name == "PYTHONPATH" or name.startswith(PREFIX)


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings: a restart must not change the settings of a process."""
    return {name: value for name, value in environment.items() if not is_setting(name)}


def start(process: ProcessState, *, stdin: int = subprocess.DEVNULL) -> psutil.Popen:
    """Start the process in its own session, append its output to its log, and set `process.pid` and `.created`."""
    with process.log.open("ab") as log:
        child = psutil.Popen(
            process.command,
            env={**_without_settings(os.environ), **process.environment},
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
    """Return the running process, or `None` if it has ended."""
    reap()
    try:
        found = psutil.Process(process.pid)
        if found.create_time() != process.created or found.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def reap() -> None:
    """Poll our children, so that those that have ended are no longer zombies."""
    for child in list(_children.values()):
        child.poll()


def stop(process: ProcessState, *, waiting: Callable[[], None] = lambda: None) -> bool:
    """Stop the process: SIGTERM, then SIGKILL after `STOP_TIMEOUT`. Return whether SIGTERM was enough.

    `waiting` is called if it still runs after `REPORT_WAIT_AFTER`.
    """
    found = find(process)
    if found is None:
        return True
    descendants = found.children(recursive=True)
    found.terminate()
    terminated = _wait_ended(process, REPORT_WAIT_AFTER)
    if not terminated:
        waiting()
        terminated = _wait_ended(process, STOP_TIMEOUT - REPORT_WAIT_AFTER)
    if not terminated:
        found.kill()
        _wait_ended(process, KILL_TIMEOUT)
    for one in psutil.wait_procs(descendants, timeout=KILL_TIMEOUT)[1]:
        one.kill()
    return terminated


def _wait_ended(process: ProcessState, within: float) -> bool:
    """Wait for the process to end; return whether it did. A zombie counts as ended."""
    deadline = time.monotonic() + within
    while find(process) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_ready(process: ProcessState, ready: Callable[[], bool], within: float) -> None:
    """Wait until `ready` returns true.

    Raises:
        StartFailed: The process ended, or the time is up; has the last lines of its log.
    """
    deadline = time.monotonic() + within
    while not ready():
        if find(process) is None:
            raise StartFailed(f"{process.name} ended while it started\n{tail(process.log)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{process.name} was not ready within {within:.0f} s\n{tail(process.log)}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Return whether an HTTP GET succeeds now."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - only our own loopback URLs come here
            return True
    except (urllib.error.URLError, OSError):
        return False


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, each prefixed with a bar."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return f"(there is no log at {log})"
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:]) or "  | (the log is empty)"
