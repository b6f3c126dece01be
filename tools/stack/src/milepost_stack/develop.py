"""`milepost dev`: a complete stack whose handlers are reloaded when their code changes.

A processor takes 1.5 seconds to start, nearly all of it to import libraries. So a warm one is always kept: it has
imported them, and waits on stdin before it imports the handlers.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from watchfiles import PythonFilter, watch

from milepost_stack import processes, services
from milepost_stack.errors import StackError
from milepost_stack.session import ROOT, Supervisor, say, stop_on_signals, stopped_at_exit
from milepost_stack.stack import DEFAULT_PORT, Size, Stack
from milepost_stack.state import ProcessState, StackState

PROCESSOR_NAME = "processor-1"
WARM_PROGRAM = (
    "import sys, milepost_processor.bootstrap; from milepost_processor.__main__ import main; "
    "sys.stdin.readline() and main()"
)
"""Exits when stdin is closed without a line: `milepost dev` has ended."""
CHECK_INTERVAL = 200
"""Milliseconds between two checks of the processes."""
DEBOUNCE = 50
"""Milliseconds without a further change before a reload: an editor writes several files."""
READY_TIMEOUT = 30.0
DEFAULT_SETTINGS = {
    # A reload interrupts running jobs, which resume in the new processor, instead of waiting for them.
    "MILEPOST_DRAIN_TIMEOUT": "0",
    "MILEPOST_CANCEL_GRACE": "1",
    **({"MILEPOST_LOG_FORMAT": "console"} if sys.stdout.isatty() and "NO_COLOR" not in os.environ else {}),
}


def develop(modules: Sequence[str], *, port: int | None, watch: Sequence[Path], reload: bool) -> int:
    """Run everything until Ctrl-C; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # until it is up; then it stops gracefully
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    import_paths = [str(path) for path in (Path.cwd(), Path.cwd() / "src") if path.is_dir()]
    sys.path[:0] = import_paths
    try:
        folders = _folders(modules)
        stack = Stack(ROOT, "dev", say)
        settings = {
            **{name: value for name, value in DEFAULT_SETTINGS.items() if name not in os.environ},
            "PYTHONPATH": os.pathsep.join([*import_paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
            **({"MILEPOST_HANDLERS": ",".join(modules)} if modules else {}),
        }
        state = stack.up(Size(processors=0), port=port, settings=settings)
        with stopped_at_exit(stack):
            _run_until_stopped(stack, state, [Path.cwd(), *folders, *watch] if reload else [])
    except StackError as error:
        say(str(error))
        return 1
    return 0


def _folders(modules: Sequence[str]) -> list[Path]:
    """Return the folders of the modules' top-level packages, without importing them.

    Raises:
        StackError: A name is a file name, or there is no such module.
    """
    found = []
    for name in modules:
        if name.endswith(".py") or "/" in name:
            parts = Path(name).with_suffix("").parts
            raise StackError(f"{name!r} is a file: name the module as it is imported, {'.'.join(parts)}")
        top = name.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
        except ValueError:  # __main__ has none
            spec = None
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            raise StackError(f"there is no module {top!r}, installed or in {Path.cwd()} or its src")
        found += [Path(one) for one in spec.submodule_search_locations or [str(Path(str(spec.origin)).parent)]]
    return found


def _run_until_stopped(stack: Stack, state: StackState, folders: Sequence[Path]) -> None:
    stop = stop_on_signals()
    log = stack.folder / f"{PROCESSOR_NAME}.log"
    log.touch()
    log_thread = threading.Thread(target=_print_log, args=(log, stop), daemon=True)
    log_thread.start()
    warm = _WarmProcessors(stack, state, stop)
    changes = _changes(folders, stop)
    try:
        next(changes, None)  # start watching: a file saved while the handlers are imported causes a reload
        warm.reload()
        if state.url and not state.url.endswith(f":{DEFAULT_PORT}"):
            say(f"for the milepost command: export MILEPOST_URL={state.url}")
        say(f"up: {state.url}; press Ctrl-C to stop")
        supervisor = Supervisor(stack, exclude=[PROCESSOR_NAME])
        for changed in changes:
            if changed:
                say(f"{', '.join(sorted(changed))} changed")
                began = time.monotonic()
                if warm.reload():
                    say(f"reloaded in {time.monotonic() - began:.1f} s")
            elif not supervisor.check():
                return
            else:
                warm.restart_if_ended()
    finally:
        stop.set()
        warm.close()
        log_thread.join()


class _WarmProcessors:
    """The running processor, and the warm one that replaces it."""

    def __init__(self, stack: Stack, state: StackState, stop: threading.Event) -> None:
        self._stop = stop
        self._stack = stack
        self._environment = state.environment_of("processor")
        self._running: tuple[ProcessState, psutil.Popen] | None = None
        self._warm = self._start()
        #: Whether the running processor became ready.
        self._was_ready = False

    def _start(self) -> tuple[ProcessState, psutil.Popen]:
        process = services.background("processor", 1, self._stack.folder, self._environment)
        process.command = [sys.executable, "-c", WARM_PROGRAM]
        return process, processes.start(process, stdin=subprocess.PIPE)

    def reload(self) -> bool:
        """Replace the running processor by the warm one; return whether that became ready."""
        if processes.find(self._warm[0]) is None:
            self._warm = self._start()  # it was killed
        old, self._running = self._running, self._warm
        process, child = self._running
        if old is not None and processes.find(old[0]) is not None:
            old[1].terminate()
        self._stack.adopt(process)
        with suppress(BrokenPipeError):
            child.stdin.write(b"go\n")
            child.stdin.close()
        self._was_ready = self._wait(process)
        if old is not None:
            processes.stop(old[0])
        self._warm = self._start()
        if not self._was_ready and not self._stop.is_set():
            say("the handlers can't be run: see the error above; waiting for a change")
        return self._was_ready

    def _wait(self, process: ProcessState) -> bool:
        deadline = time.monotonic() + READY_TIMEOUT
        while processes.find(process) is not None and time.monotonic() < deadline:
            if process.ready_url is not None and processes.answers(process.ready_url):
                return True
            if self._stop.wait(0.02):
                break
        return False

    def restart_if_ended(self) -> None:
        """Restart the processor if it ended unexpectedly: a handler may have killed it."""
        if self._was_ready and self._running is not None and processes.find(self._running[0]) is None:
            say("the processor ended unexpectedly and is started again")
            self.reload()

    def close(self) -> None:
        """Kill the warm processor; the stack stops the running one."""
        with suppress(psutil.NoSuchProcess):
            self._warm[1].kill()
        self._warm[1].wait()


def _changes(folders: Sequence[Path], stop: threading.Event) -> Iterator[set[str]]:
    """Yield the names of changed files; an empty set every `CHECK_INTERVAL` without a change."""
    if not folders:
        while not stop.wait(CHECK_INTERVAL / 1000):
            yield set()
        return
    for changes in watch(
        *dict.fromkeys(folder.resolve() for folder in folders),
        watch_filter=PythonFilter(),
        stop_event=stop,
        step=DEBOUNCE,
        rust_timeout=CHECK_INTERVAL,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        yield {os.path.relpath(path) for _, path in changes if not _is_test(Path(path))}


def _is_test(path: Path) -> bool:
    return "tests" in path.parts or path.name.startswith("test_") or path.name == "conftest.py"


def _print_log(log: Path, stop: threading.Event) -> None:
    """Copy the processor's output to stdout as it is written."""
    with log.open("rb") as file:
        while True:
            ended = stop.is_set()
            if piece := file.read():
                sys.stdout.buffer.write(piece)
                sys.stdout.flush()
            elif ended:
                return
            else:
                stop.wait(0.05)
