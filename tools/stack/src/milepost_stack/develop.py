"""`milepost dev`: a whole stack whose handlers are started anew when their code changes.

A processor takes a second and a half to start, nearly all of it for the libraries that it imports. So one is always
kept warm: it has imported them, and waits for the word to import the handlers.
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
from milepost_stack.session import ROOT, Watchman, say, stop_when_asked, stopped_at_the_end
from milepost_stack.stack import DEFAULT_PORT, Size, Stack
from milepost_stack.state import ProcessState, StackState

NAME = "processor-1"
WARM = (
    "import sys, milepost_processor.bootstrap; from milepost_processor.__main__ import main; "
    "sys.stdin.readline() and main()"
)
"""Nothing comes, and it ends, when whoever keeps it warm has gone."""
LOOK_EVERY = 200
"""Milliseconds between two looks at what runs."""
SETTLE = 50
"""Milliseconds for which nothing may change until what has changed is taken up: an editor writes several files."""
READY_WITHIN = 30.0
DEFAULTS = {
    # What runs while the code changes goes on in the new one, rather than to be waited for.
    "MILEPOST_DRAIN_TIMEOUT": "0",
    "MILEPOST_CANCEL_GRACE": "1",
    **({"MILEPOST_LOG_FORMAT": "console"} if sys.stdout.isatty() and "NO_COLOR" not in os.environ else {}),
}


def develop(modules: Sequence[str], *, port: int | None, watch: Sequence[Path], reload: bool) -> int:
    """Run everything until Ctrl-C; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # until it is up; then it stops in good order
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    places = [str(place) for place in (Path.cwd(), Path.cwd() / "src") if place.is_dir()]
    sys.path[:0] = places
    try:
        folders = _folders(modules)
        stack = Stack(ROOT, "dev", say)
        settings = {
            **{name: value for name, value in DEFAULTS.items() if name not in os.environ},
            "PYTHONPATH": os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])]),
            **({"MILEPOST_HANDLERS": ",".join(modules)} if modules else {}),
        }
        state = stack.up(Size(processors=0), port=port, settings=settings)
        with stopped_at_the_end(stack):
            _stay(stack, state, [Path.cwd(), *folders, *watch] if reload else [])
    except StackError as error:
        say(str(error))
        return 1
    return 0


def _folders(modules: Sequence[str]) -> list[Path]:
    """Return where the modules are, without running them.

    Raises:
        StackError: There is no such module.
    """
    found = []
    for name in modules:
        if name.endswith(".py") or "/" in name:
            words = Path(name).with_suffix("").parts
            raise StackError(f"{name!r} is a file: name the module as it is imported, {'.'.join(words)}")
        top = name.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
        except ValueError:  # __main__ has none
            spec = None
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            raise StackError(f"there is no module {top!r}, neither installed nor in {Path.cwd()} or its src")
        found += [Path(one) for one in spec.submodule_search_locations or [str(Path(str(spec.origin)).parent)]]
    return found


def _stay(stack: Stack, state: StackState, folders: Sequence[Path]) -> None:
    stop = stop_when_asked()
    log = stack.folder / f"{NAME}.log"
    log.touch()
    telling = threading.Thread(target=_tell, args=(log, stop), daemon=True)
    telling.start()
    warm = WarmProcessors(stack, state, stop)
    changes = _changes(folders, stop)
    try:
        next(changes, None)  # what is saved while the handlers are imported is noticed too
        warm.reload()
        if state.url and not state.url.endswith(f":{DEFAULT_PORT}"):
            say(f"for the milepost command: export MILEPOST_URL={state.url}")
        say(f"up: {state.url}; press Ctrl-C to stop")
        watchman = Watchman(stack, leaving_out=[NAME])
        for changed in changes:
            if changed:
                say(f"{', '.join(sorted(changed))} changed")
                began = time.monotonic()
                if warm.reload():
                    say(f"reloaded in {time.monotonic() - began:.1f} s")
            elif not watchman.look():
                return
            else:
                warm.look()
    finally:
        stop.set()
        warm.close()
        telling.join()


class WarmProcessors:
    """The processor that runs, and the one that will take its place."""

    def __init__(self, stack: Stack, state: StackState, stop: threading.Event) -> None:
        self._stop = stop
        self._stack = stack
        self._environment = state.environment
        self._running: tuple[ProcessState, psutil.Popen] | None = None
        self._warm = self._start()
        #: Whether the running one has been ready.
        self._well = False

    def _start(self) -> tuple[ProcessState, psutil.Popen]:
        process = services.background("processor", 1, self._stack.folder, self._environment)
        process.command = [sys.executable, "-c", WARM]
        return process, processes.start(process, stdin=subprocess.PIPE)

    def reload(self) -> bool:
        """Let the warm one import the handlers and take over; return whether it could."""
        if processes.find(self._warm[0]) is None:
            self._warm = self._start()  # somebody has killed it
        old, self._running = self._running, self._warm
        process, child = self._running
        if old is not None and processes.find(old[0]) is not None:
            old[1].terminate()
        self._stack.join(process)
        with suppress(BrokenPipeError):
            child.stdin.write(b"go\n")
            child.stdin.close()
        self._well = self._wait(process)
        if old is not None:
            processes.stop(old[0])
        self._warm = self._start()
        if not self._well and not self._stop.is_set():
            say("the handlers can't be run: see above; waiting for a change")
        return self._well

    def _wait(self, process: ProcessState) -> bool:
        deadline = time.monotonic() + READY_WITHIN
        while processes.find(process) is not None and time.monotonic() < deadline:
            if process.ready_url is not None and processes.answers(process.ready_url):
                return True
            if self._stop.wait(0.02):
                break
        return False

    def look(self) -> None:
        """Start the processor again that has ended by itself: a handler may have killed it."""
        if self._well and self._running is not None and processes.find(self._running[0]) is None:
            say("the processor has ended by itself and is started again")
            self.reload()

    def close(self) -> None:
        """End the warm one; the stack stops the one that runs."""
        with suppress(psutil.NoSuchProcess):
            self._warm[1].kill()
        self._warm[1].wait()


def _changes(folders: Sequence[Path], stop: threading.Event) -> Iterator[set[str]]:
    """Yield the names of the files that have changed, and nothing now and then."""
    if not folders:
        while not stop.wait(LOOK_EVERY / 1000):
            yield set()
        return
    for changes in watch(
        *dict.fromkeys(folder.resolve() for folder in folders),
        watch_filter=PythonFilter(),
        stop_event=stop,
        step=SETTLE,
        rust_timeout=LOOK_EVERY,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        yield {os.path.relpath(path) for _, path in changes if not _is_test(Path(path))}


def _is_test(path: Path) -> bool:
    return "tests" in path.parts or path.name.startswith("test_") or path.name == "conftest.py"


def _tell(log: Path, stop: threading.Event) -> None:
    """Print what the processor prints and logs, as it comes."""
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
