"""A stack in the foreground: services that end unexpectedly are restarted, and everything is stopped at exit."""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from milepost_stack import processes
from milepost_stack.errors import StackError
from milepost_stack.stack import Stack

ROOT = Path(os.environ.get("MILEPOST_STACKS", ".milepost/stacks"))
"""The folder that holds the stacks' folders."""
MAX_RESTARTS = 20
"""Number of unexpected ends of a service before the stack is stopped."""


def say(text: str) -> None:
    """Print a message to stderr."""
    print(f"stack: {text}", file=sys.stderr, flush=True)  # noqa: T201


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def stopped_at_exit(stack: Stack) -> Iterator[None]:
    """Stop the stack at exit, unless another command already has."""
    try:
        yield
    finally:
        if stack.state is None:
            say("stopped by another command")
        else:
            say("stopping")
            stack.down()
            say("stopped")


class Supervisor:
    """Restarts services that end unexpectedly, as an orchestrator would: a handler may have killed one."""

    def __init__(self, stack: Stack, *, exclude: Collection[str] = ()) -> None:
        """Supervise all processes of a stack except those in `exclude`."""
        self._stack = stack
        self._exclude = exclude
        self._ended: Counter[str] = Counter()

    def check(self) -> bool:
        """Restart ended services; return whether the stack is still up.

        Raises:
            StackError: A server ended, or a service ended more than `MAX_RESTARTS` times.
        """
        processes.reap()
        state = self._stack.state
        if state is None:
            return False
        for process in state.processes:
            watched = process.pid and process.name not in self._exclude and not state.stopping
            if watched and processes.find(process) is None:
                self._ended[process.name] += 1
                if process.ready_url is None or self._ended[process.name] > MAX_RESTARTS:
                    raise StackError(f"{process.name} ended unexpectedly\n{processes.tail(process.log)}")
                self._stack.revive(process.name)
                say(f"{process.name} ended unexpectedly and is started again; its log is {process.log}")
        return True
