"""Runs programs for `Run.subprocess`: no process of a program is left when the call returns, or when this process dies.

A program and its children are a process group of their own. A guard, a small shell, leads the group: it ignores the
signals that ask for an end, so the group exists until it is killed, and it kills the group once its input is closed,
which happens when this process dies, however it dies. (PR_SET_PDEATHSIG of Linux reaches a program, not its children.)
"""

import asyncio
import contextvars
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from tempfile import TemporaryFile
from typing import IO, Self, TypedDict
from weakref import WeakSet

GRACE = 5.0
"""Seconds that a program and its children have to end after SIGTERM, before SIGKILL."""
MAX_OUTPUT = 64 * 1024
"""Maximum bytes of each of a program's outputs that are kept: the last ones."""
MAX_LINE = 16 * 1024
"""Maximum bytes of a line; a longer one is passed on in pieces."""

_MAX_NOTE = 4_000
_POLL_INTERVAL = 0.05
_CHUNK = 64 * 1024
_CHUNKS_AFTER_END = 16
"""A program may have left this many chunks in its pipes; its children may write to them for ever."""
_GUARD = "trap '' TERM INT HUP; read -r _ || kill -KILL 0"

Command = str | PathLike[str] | Sequence[str | PathLike[str]]


class ProgramOptions(TypedDict, total=False):
    """The optional arguments of `Run.subprocess`, which explains them."""

    on_line: Callable[[str], object] | None
    check: bool
    input: str | bytes | None
    cwd: str | PathLike[str] | None
    env: Mapping[str, str] | None
    shell: bool


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to run, and what to do with its output and exit code."""

    args: Command
    on_line: Callable[[str], object] | None = None
    check: bool = False
    input: str | bytes | None = None
    cwd: str | PathLike[str] | None = None
    env: Mapping[str, str] | None = None
    shell: bool = False


class Programs:
    """The programs that the handler of a run has started, on whatever threads. They end with the handler."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    def run(self, program: Program, checkpoint: Callable[[], None]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; end it if `checkpoint`, which is called about every 50 ms, or `on_line` raises."""
        with self._counted():
            return _run(program, lambda: self._check(checkpoint))

    async def run_async(self, program: Program, checkpoint: Callable[[], None]) -> subprocess.CompletedProcess[str]:
        """Run a program on a thread of its own; end it, and wait for its end, if the task is cancelled."""
        canceled = threading.Event()

        def check() -> None:
            if canceled.is_set():
                raise asyncio.CancelledError
            checkpoint()

        call = partial(contextvars.copy_context().run, self.run, program, check)
        executor = ThreadPoolExecutor(1, thread_name_prefix="program")
        running = asyncio.get_running_loop().run_in_executor(executor, call)
        executor.shutdown(wait=False)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            canceled.set()
            await asyncio.wait([running])
            raise

    def close(self) -> None:
        """End the programs that still run, and return when they have ended; no other can be started."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._running == 0)

    def _check(self, checkpoint: Callable[[], None]) -> None:
        checkpoint()
        if self._closed:
            raise RuntimeError("the handler has ended, so the programs that it started are ended too")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


def _run(program: Program, checkpoint: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    checkpoint()
    outputs = (_Output(program.on_line), _Output(program.on_line))
    with _input_of(program) as stdin, _ProcessGroup() as group:
        process = group.start(program, stdin)
        with _Pipes(process, outputs) as pipes:
            try:
                pipes.read_until_end(checkpoint)
            finally:
                pipes.terminate(group)
    for output in outputs:
        output.finish()
    completed = subprocess.CompletedProcess(program.args, process.wait(), outputs[0].tail, outputs[1].tail)
    return _checked(completed) if program.check else completed


def _checked(completed: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if completed.returncode == 0:
        return completed
    error = subprocess.CalledProcessError(completed.returncode, completed.args, completed.stdout, completed.stderr)
    error.add_note((completed.stderr or completed.stdout)[-_MAX_NOTE:])  # the end of the traceback
    raise error


@contextmanager
def _input_of(program: Program) -> Iterator[IO[bytes] | int]:
    """Open what the program reads. A file rather than a pipe: nobody has to write while the program runs."""
    if program.input is None:
        yield subprocess.DEVNULL
        return
    with TemporaryFile() as file:
        file.write(program.input.encode() if isinstance(program.input, str) else program.input)
        file.seek(0)
        yield file


class _ProcessGroup:
    """The processes of a program. They are killed when the context exits, or when this process dies."""

    def __enter__(self) -> Self:
        self._guard = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            process_group=0,
        )
        self._processes = [self._guard]
        _guards.add(self._guard)
        return self

    def start(self, program: Program, stdin: IO[bytes] | int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - the handler names the program
            program.args,
            shell=program.shell,
            cwd=program.cwd,
            env=program.env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=self._guard.pid,
        )
        self._processes.append(process)
        return process

    def signal(self, number: int) -> None:
        """Send a signal to every process of the group. Its id belongs to no other group until the guard is reaped."""
        os.killpg(self._guard.pid, number)

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGKILL)
        for process in reversed(self._processes):
            process.wait()
        _guards.discard(self._guard)
        _close_input(self._guard)


_guards = WeakSet[subprocess.Popen[bytes]]()
"""Weak: a guard that an exception in the wrong moment leaves behind kills its group when its input is collected."""


def _close_input(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None  # noqa: S101 - it is a pipe
    guard.stdin.close()


def _forget_guards() -> None:
    """Close the inputs of the guards in a forked child, which would keep the groups alive after this process."""
    while _guards:
        _close_input(_guards.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_guards)


class _Output:
    """Splits an output into lines, and keeps its end."""

    def __init__(self, on_line: Callable[[str], object] | None) -> None:
        self.on_line = on_line
        self._tail = bytearray()
        self._rest = b""
        self._ended_by_return = False

    @property
    def tail(self) -> str:
        return _text(self._tail[-MAX_OUTPUT:])

    def feed(self, chunk: bytes) -> None:
        self._tail += chunk
        del self._tail[: -2 * MAX_OUTPUT]
        if self.on_line is None:
            return
        for line in self._lines(chunk):
            self.on_line(_text(line))

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that the chunk completes. A carriage return ends a line too: progress bars use it."""
        if self._ended_by_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._ended_by_return = chunk.endswith(b"\r")
        lines = (self._rest + chunk).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        while len(self._rest) > MAX_LINE:
            lines.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        return [line.rstrip(b"\r\n") for line in lines]

    def finish(self) -> None:
        """Pass on the last line, if it has no end."""
        if self.on_line is not None and self._rest:
            self.on_line(_text(self._rest))


def _text(output: bytes | bytearray) -> str:
    return output.decode(errors="replace")


class _Pipes:
    """Reads the outputs of a process until it and its children have ended."""

    def __init__(self, process: subprocess.Popen[bytes], outputs: Sequence[_Output]) -> None:
        self._process = process
        self._outputs = outputs
        self._pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]

    def __enter__(self) -> Self:
        self._selector = selectors.DefaultSelector()
        for pipe, output in zip(self._pipes, self._outputs, strict=True):
            self._selector.register(pipe, selectors.EVENT_READ, output)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for pipe in self._pipes:
            pipe.close()

    def read_until_end(self, checkpoint: Callable[[], None]) -> None:
        """Read until the process has ended."""
        while self._process.poll() is None:
            checkpoint()
            self._read(_POLL_INTERVAL)
        for _ in range(_CHUNKS_AFTER_END):
            if not self._read(0):
                break

    def terminate(self, group: _ProcessGroup) -> None:
        """Tell the group to end, and return when no process of it has a pipe open, at the latest after `GRACE`."""
        if self._ended:
            return
        for output in self._outputs:
            output.on_line = None  # it may be what raised
        group.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while not self._ended and time.monotonic() < deadline:
            self._read(_POLL_INTERVAL)

    @property
    def _ended(self) -> bool:
        return self._process.poll() is not None and not self._selector.get_map()

    def _read(self, timeout: float) -> bool:
        """Read what there is within the timeout; return whether there was something."""
        if not self._selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
            return False
        ready = self._selector.select(timeout)
        for key, _ in ready:
            chunk = os.read(key.fd, _CHUNK)
            if chunk:
                key.data.feed(chunk)
            else:
                self._selector.unregister(key.fileobj)
        return bool(ready)
