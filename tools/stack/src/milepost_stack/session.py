"""A stack while somebody sits before it: what ends by itself is started again, and all is stopped at the end."""

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
"""Where stacks have their folders."""
MOST_REVIVALS = 20
"""How often a service may end by itself before the whole stack is stopped."""


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(f"stack: {text}", file=sys.stderr, flush=True)  # noqa: T201


def stop_when_asked() -> threading.Event:
    """Return what is set by Ctrl-C, SIGTERM or SIGHUP from now on."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def stopped_at_the_end(stack: Stack) -> Iterator[None]:
    """Stop the stack at the end, unless another command has done so."""
    try:
        yield
    finally:
        if stack.state is None:
            say("stopped by another command")
        else:
            say("stopping")
            stack.down()
            say("stopped")


class Watchman:
    """Starts a service again that ends by itself, as an orchestrator would: a handler may have killed it."""

    def __init__(self, stack: Stack, *, leaving_out: Collection[str] = ()) -> None:
        """Look after a stack, but for the processes of these names."""
        self._stack = stack
        self._leaving_out = leaving_out
        self._ended: Counter[str] = Counter()

    def look(self) -> bool:
        """Look once; return whether the stack is still up.

        Raises:
            StackError: A server ended by itself, or a service too often.
        """
        processes.reap()
        state = self._stack.state
        if state is None:
            return False
        for process in state.processes:
            watched = process.pid and process.name not in self._leaving_out and not state.stopping
            if watched and processes.find(process) is None:
                self._ended[process.name] += 1
                if process.ready_url is None or self._ended[process.name] > MOST_REVIVALS:
                    raise StackError(f"{process.name} has ended by itself\n{processes.tail(process.log)}")
                self._stack.revive(process.name)
                say(f"{process.name} has ended by itself and is started again; its log is {process.log}")
        return True
