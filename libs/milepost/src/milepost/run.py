"""One execution of a job, as its handler sees it. Reporting never blocks: it only records the latest state.

The caller of the handler (a processor, a test) reads `report()` at any time. Between two reads, only the latest
progress is kept; all items are counted, and the latest are kept.
"""

import itertools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any, BinaryIO, NoReturn, TypeVar, Unpack
from weakref import WeakSet

from milepost.errors import RunStopped
from milepost.files import File, Outputs, checked_media_type
from milepost.json_form import to_json
from milepost.masking import NOTHING_SECRET, Masking
from milepost.meter import Meter, eta
from milepost.subprocesses import Command, Program, ProgramOptions, Programs
from milepost_contracts.values import (
    MAX_ITEM,
    MAX_ITEMS,
    MAX_OUTPUTS,
    MAX_STATE,
    Items,
    Progress,
    clipped,
)

T = TypeVar("T")

_MAX_MESSAGE, _MAX_UNIT = 500, 64
_MAX_EXACT_INTEGER = 2**53
"""The largest integer up to which every JSON reader is exact."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A state that a handler has saved."""

    #: Differs from that of every other save of the run.
    number: int
    #: The state as JSON.
    encoded: bytes


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run has reported so far."""

    #: Grows with every report; unchanged if nothing was reported in between.
    version: int
    progress: Progress | None
    items: Items


class Run:
    """A handler's access to its job: files, progress, items, saved state. Safe to use from several threads."""

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int = 1,
        token: str = "",
        files: tuple[File, ...] = (),
        saved_state: Any = None,
        outputs: Outputs | None = None,
        earlier_outputs: Iterable[str] = (),
        masking: Masking = NOTHING_SECRET,
    ) -> None:
        #: The job's id, for the handler's own logs.
        self.job_id = job_id
        #: 1 for the first attempt.
        self.attempt = attempt
        #: The fencing token: of two executions of one job, the one whose token sorts last is valid.
        #: Pass it to the systems that the handler writes to, so that they can reject a smaller token.
        self.token = token
        #: The uploaded files, in the client's order.
        self.files = files
        #: Masks the secret params in the texts that the handler reports.
        self.masking = masking
        #: The state, or a function that loads it.
        self._saved_state = saved_state
        #: What this attempt has saved last, or `None`.
        self.saved: Saved | None = None
        self._save_numbers = itertools.count(1)
        self._outputs = outputs
        self._earlier_outputs = frozenset(earlier_outputs)
        self._output_names: set[str] = set()
        self._has_result = False
        #: What the next report raises.
        self._stop: RunStopped | RuntimeError | None = None
        self._programs = Programs()
        self._version = 0
        self._progress: tuple[float, float | None, str | None, str | None] | None = None
        self._item_count = 0
        self._last_items: deque[Any] = deque(maxlen=MAX_ITEMS)
        self._items_lock = threading.Lock()
        self._meter = Meter(started=time.monotonic())
        self._rate: float | None = None
        _runs.add(self)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"run can't be sent to another process: {_REPORT_HERE}")

    # For handlers.

    @property
    def saved_state(self) -> Any:
        """The state that was saved with `save`, by this attempt or by an earlier one; `None` if there is none."""
        if callable(self._saved_state):
            self._saved_state = self._saved_state()
        return self._saved_state

    def progress(
        self, done: float, total: float | None = None, message: str | None = None, *, unit: str | None = None
    ) -> None:
        """Report the progress of the job.

        Args:
            done: Number of units done; a negative one and NaN count as 0.
            total: Number of all units, if known; one less than `done` counts as `done`, NaN and infinity as unknown.
            message: A description of the current step; the first 500 characters are kept.
            unit: The name of the units, for example `files`.

        Raises:
            RunStopped: The run must end; do not catch it.
            TypeError, ValueError: `done` or `total` is not a number.
        """
        if self._stop is not None:
            raise self._stop
        if self._progress is None:
            self._meter.begin(_clamped(_number(done)), time.monotonic())
        self._progress = (
            done if type(done) is float or type(done) is int else _number(done),
            total if total is None or type(total) is float or type(total) is int else _number(total),
            None if message is None else str(message),
            None if unit is None else str(unit),
        )
        self._version += 1

    def track(
        self,
        units: Iterable[T],
        *,
        total: float | None = None,
        unit: str | None = None,
        message: str | None = None,
    ) -> Iterator[T]:
        """Yield the units one by one; report each as done when the loop asks for the next.

        The default of `total` is `len(units)`, if the units have a length.

        Raises:
            RunStopped: The run must end; do not catch it.
        """
        if total is None and isinstance(units, Sized):
            total = len(units)
        self.progress(0, total, message, unit=unit)
        for done, one in enumerate(units, start=1):
            yield one
            self.progress(done, total, message, unit=unit)

    def emit(self, item: Any) -> None:
        """Publish a partial result while the job runs: a JSON value or pydantic model of up to 2 KiB.

        Raises:
            RunStopped: The run must end; do not catch it.
            ValueError: It is larger, or has no JSON form.
        """
        _, value = _limited_json(item, "an item", MAX_ITEM)
        with self._items_lock:
            self._item_count += 1
            self._last_items.append(value)
            self._version += 1
        self.checkpoint()

    def save(self, state: Any) -> None:
        """Save a JSON value of up to 16 MiB for the next attempt, which gets it as `run.saved_state`.

        It does if this attempt is interrupted or retried, and if its processor is killed; then what was saved in the
        last second or so may be lost. Files that are complete are kept with the state.

        Raises:
            RunStopped: The run must end; do not catch it.
            ValueError: It is larger, or has no JSON form.
        """
        encoded, self._saved_state = _limited_json(state, "a saved state", MAX_STATE)
        self.saved = Saved(number=next(self._save_numbers), encoded=encoded)
        self.checkpoint()

    def create(
        self, name: str, *, media_type: str | None = None, as_result: bool = False
    ) -> AbstractContextManager[BinaryIO]:
        """Open a file for writing, in binary mode: `with run.create("report.csv") as file: file.write(b"…")`.

        Clients can download it once the job has ended, whichever attempt wrote it; if the next attempt writes a file of
        the same name, that one is kept. Files that are incomplete when the attempt ends are deleted.

        Args:
            name: A relative path of up to 255 characters, used only as a label.
            media_type: For example `text/csv`; by default guessed from the name.
            as_result: The file is the job's result; the handler must return `None`.

        Raises:
            RunStopped: The run must end; do not catch it.
            ValueError: The name or media type is invalid, the file or a result exists already, or there are 100 files.
        """
        kind = checked_media_type(name, media_type)
        if name in self._output_names:
            raise ValueError(f"the job has a file {name!r} already")
        if len(self._output_names | self._earlier_outputs | {name}) > MAX_OUTPUTS:
            raise ValueError(f"the limit of {MAX_OUTPUTS} files is reached")
        if as_result and self._has_result:
            raise ValueError("the job has a result already")
        if self._outputs is None:
            raise ValueError("this run can't store files: it was created without outputs")
        self.checkpoint()
        self._output_names.add(name)
        self._has_result |= as_result
        return self._outputs.create(name, media_type=kind, as_result=as_result)

    def checkpoint(self) -> None:
        """Raise if the run must end; otherwise do nothing.

        Raises:
            RunStopped: The run must end; do not catch it.
        """
        if self._stop is not None:
            raise self._stop

    def subprocess(self, args: Command, **options: Unpack[ProgramOptions]) -> CompletedProcess[str]:
        """Run a program until it has ended; if the run must end, end the program and its children first.

        They get SIGTERM, and after 5 seconds SIGKILL. Children that the program leaves running are ended too, and all
        of them are killed if the processor is. A process that calls `setsid`, as daemons do, escapes that.

        Args:
            args: The program and its arguments, as in `subprocess.run`.
            on_line: Called with each line of the program's standard output and standard error, without its end; for
                example `log.info`, or `lambda line: run.progress(done, total, line)`.
            check: Raise if the exit code is not 0.
            input: The program's standard input; by default it is empty.
            cwd: The program's working directory.
            env: The program's environment; by default this process's own.
            shell: `args` is a command for the shell.

        Returns:
            The exit code, and the last 64 KiB each of standard output and standard error, as text.

        Raises:
            RunStopped: The run must end; do not catch it.
            subprocess.CalledProcessError: `check` is true, and the exit code is not 0.
            OSError: The program can't be started.
        """
        return self._programs.run(Program(args=args, **options), self.checkpoint)

    async def subprocess_async(self, args: Command, **options: Unpack[ProgramOptions]) -> CompletedProcess[str]:
        """Do what `subprocess` does, in an async handler. The program also ends if the awaiting task is cancelled.

        `on_line` is called on another thread than the event loop's.
        """
        return await self._programs.run_async(Program(args=args, **options), self.checkpoint)

    def _forbid_reports(self) -> None:
        """Make every report raise, in a forked child. Its locks may be held by threads that only its parent has."""
        self._items_lock = threading.Lock()
        self._programs = Programs()
        self._stop = RuntimeError(f"what a forked process reports does not reach the job: {_REPORT_HERE}")

    # For the caller of the handler.

    def close(self) -> None:
        """End the programs that the handler has left running, on other threads; return when they have ended."""
        self._programs.close()

    def stop(self, reason: RunStopped) -> None:
        """Make the handler's next report or checkpoint raise `reason`. Only the first call has an effect."""
        if self._stop is None:
            self._stop = reason

    @property
    def stopped(self) -> RunStopped | None:
        """The reason why the run must end, or `None`."""
        return self._stop if isinstance(self._stop, RunStopped) else None

    @property
    def has_result_file(self) -> bool:
        """Whether the handler wrote a file that is the job's result."""
        return self._outputs is not None and self._outputs.result is not None

    @property
    def version(self) -> int:
        """A number that changes with every report."""
        return self._version

    def report(self) -> Report:
        """Return what the handler has reported so far, with the current rate and ETA."""
        version, latest = self._version, self._progress
        with self._items_lock:
            items = Items(count=self._item_count, last=tuple(self._last_items))
        return Report(version=version, progress=self._measured(latest) if latest else None, items=items)

    def _measured(self, latest: tuple[float, float | None, str | None, str | None]) -> Progress:
        done, total, message, unit = latest
        done = _clamped(done)
        total = None if total is None or not total < math.inf else max(_clamped(total), done)
        self._rate = self._meter.sample(done, time.monotonic())
        remaining = eta(done, total, self._rate)
        return Progress(
            done=done,
            total=total,
            percent=None if total is None else (100.0 if total == 0 else round(100 * done / total, 1)),
            unit=_truncated(unit, _MAX_UNIT),
            message=_truncated(message and self.masking(message), _MAX_MESSAGE),
            rate=None if self._rate is None else round(self._rate, 3),
            eta_seconds=None if remaining is None else round(remaining, 1),
        )


_REPORT_HERE = (
    "report from the handler's own process, for example call run.progress for each result of pool.imap_unordered(…)"
)
_runs = WeakSet[Run]()


def _forbid_reports_in_child() -> None:
    for run in list(_runs):
        run._forbid_reports()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forbid_reports_in_child)


def _limited_json(value: Any, what: str, limit: int) -> tuple[bytes, Any]:
    """Return the value as JSON, and as the plain value that it decodes to.

    Raises:
        ValueError: It has no JSON form, or is too large or too deep.
    """
    encoded, plain = to_json(value, what)
    if len(encoded) > limit:
        raise ValueError(f"{what} has {len(encoded)} bytes; the limit is {limit}")
    return encoded, plain


def _number(value: Any) -> float:
    """Convert what a handler reported as a number.

    Raises:
        TypeError, ValueError: It is none.
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _clamped(number: float) -> float:
    """Limit a number that a handler reported: NaN and negative numbers become 0, large ones the maximum."""
    return min(number, _MAX_EXACT_INTEGER) if number >= 0 else 0


def _truncated(text: str | None, length: int) -> str | None:
    return clipped(text, length) if text else None
