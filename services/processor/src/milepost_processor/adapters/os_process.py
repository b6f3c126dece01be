"""The processor as a process of the operating system: its signals, what its children inherit, and its end."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

CHILDREN_GRACE = 1.0
"""Seconds that children get to end after SIGTERM."""
EXIT_GRACE = timedelta(seconds=2)
"""How long exit handlers and threads that are no daemons may delay the end of the process."""
MAIN_THREAD_TIMEOUT = 60.0
"""Seconds after which a main thread that does not wait for signals counts as stuck."""
_LAST_RESORT = 1.0
"""Seconds after the limit at which the kernel ends the process: a handler may hold the interpreter."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_forking = threading.local()


class StopSignals:
    """Receives SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self._numbers: SimpleQueue[int] = SimpleQueue()  # an `Event` that is set in a signal handler can deadlock
        self.received = False
        self._awaited_at = time.monotonic()
        for number in _SIGNALS:
            signal.signal(number, self._receive)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a module of handlers may have set it back

    def _receive(self, number: int, _: object) -> None:
        self.received = True
        self._numbers.put(number)

    @property
    def is_awaited(self) -> bool:
        """Whether the main thread still waits for them, as far as can be told, or has received one."""
        return self.received or time.monotonic() - self._awaited_at < MAIN_THREAD_TIMEOUT

    def wait(self, timeout: float) -> bool:
        """Wait for a signal, up to `timeout` seconds; return whether one was received."""
        self._awaited_at = time.monotonic()
        with suppress(Empty):
            self._numbers.get(timeout=0 if self.received else timeout)
        return self.received


def restore_streams() -> None:
    """Open `sys.stdout` and `sys.stderr` again if a handler has closed or removed them: the next one may print."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False))


def log_thread_errors() -> None:
    """Log errors that end a thread: by default, they go to `sys.stderr`, which a handler may have closed."""
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_thread_error


def _log_thread_error(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        log.error("thread_failed", thread=failed.thread and failed.thread.name, exc_info=failed.exc_value)


def disinherit_children(ports: Collection[int]) -> None:
    """Let the children that handlers fork be processes of their own.

    They get the default signal handlers, so that they can be terminated. They lose the sockets to these ports: with
    them, RabbitMQ would hold a killed processor's jobs for as long as its children live.

    Args:
        ports: The ports of the servers, and of the processor's own server.
    """
    os.register_at_fork(
        before=_block_signals,
        after_in_parent=_unblock_signals,
        after_in_child=partial(_disinherit, frozenset(ports)),
    )


def _block_signals() -> None:
    """Keep a signal to the child from the parent's handlers, until the child has its own."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _disinherit(ports: frozenset[int]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _unblock_signals()
    with suppress(OSError):  # where there is no such folder, sockets are inherited
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if _port_of(descriptor) in ports:
                os.dup2(nothing, descriptor)  # the descriptor stays taken: its Python object may close it later
        os.close(nothing)


def _port_of(descriptor: int) -> int | None:
    """Return the port that a socket is connected to or listens on; `None` if it is no socket."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        listens = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        address = connection.getsockname() if listens else connection.getpeername()
    except OSError:
        return None
    finally:
        connection.detach()
    return int(address[1]) if isinstance(address, tuple) and len(address) > 1 else None


def end_children() -> None:
    """Terminate the children that handlers started with `multiprocessing`, and kill those that do not end."""
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    deadline = time.monotonic() + CHILDREN_GRACE
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():
            child.kill()
            child.join(CHILDREN_GRACE)


def crash() -> NoReturn:
    """End the process at once, as a crash would: running jobs are delivered again, and that counts as their crash."""
    with suppress(BaseException):
        end_children()
    os._exit(1)


def end_within(limit: timedelta, code: int) -> None:
    """End the process with this code once the time is over, whatever a thread, a child or an exit handler does."""
    seconds = limit.total_seconds()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + CHILDREN_GRACE + _LAST_RESORT)
    timer = threading.Timer(seconds, _end, [code])
    timer.daemon = True
    timer.start()


def _end(code: int) -> None:
    waiting = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.is_alive()]
    log.warning("exit_forced", exit_code=code, threads=waiting, detail="it took longer than it may")
    with suppress(BaseException):
        end_children()
    os._exit(code)
