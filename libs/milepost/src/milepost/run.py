"""One execution of a job, as its handler sees it. Reporting never blocks: it notes the newest state.

A `Run` does not know where its reports go. Whoever drives it (the processor's courier, a test) reads `report()` when
it likes; between two reads only the newest state counts, and items are counted even when they are no longer shown.
"""

import mimetypes
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeVar

import pydantic_core

from milepost.errors import RunStopped
from milepost.meter import Meter, eta
from milepost_contracts.values import (
    LAST_ITEMS,
    MAX_DEPTH,
    MAX_ITEM,
    MAX_OUTPUTS,
    MAX_STATE,
    Items,
    Progress,
    fitting,
    too_deep,
)

T = TypeVar("T")

_MESSAGE, _UNIT, _NAME = 500, 64, 255
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,40}/[A-Za-z0-9!#$&^_.+-]{1,50}")
_MOST = 2**53
"""The largest whole number that every JSON reader holds exactly."""


class File(Protocol):
    """A file that came with the job."""

    @property
    def name(self) -> str:
        """The client's name for it: a relative path, a label only."""

    @property
    def size(self) -> int:
        """Bytes."""

    def open(self) -> BinaryIO:
        """Open it for reading, as bytes."""


class Outputs(Protocol):
    """Where a handler's files go."""

    def create(self, name: str, *, media_type: str, as_result: bool) -> AbstractContextManager[BinaryIO]:
        """Open a new file for writing; it counts once it is closed without an error."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run has told of itself so far."""

    #: Grows with every report; the same number means that nothing was said in between.
    version: int
    progress: Progress | None
    items: Items


class Run:
    """What a handler can ask and tell while it runs. Safe to use from several threads."""

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int = 1,
        token: str = "",
        files: tuple[File, ...] = (),
        saved_state: Any = None,
        outputs: Outputs | None = None,
    ) -> None:
        #: The job's id, for the handler's own logs.
        self.job_id = job_id
        #: 1 for the first attempt.
        self.attempt = attempt
        #: The fencing token: of two executions of one job, the one whose token sorts last is the one that counts.
        #: Pass it to what the handler writes to, for it to refuse a smaller one.
        self.token = token
        #: The files that came with the job, in the client's order.
        self.files = files
        #: What an earlier attempt gave to `save`, if it was interrupted, failed or asked to be called again.
        self.saved_state = saved_state
        self._outputs = outputs
        self._output_names: set[str] = set()
        self._has_result = False
        self._stop: RunStopped | None = None
        self._version = 0
        self._progress: tuple[float, float | None, str | None, str | None] | None = None
        self._item_count = 0
        self._last_items: deque[Any] = deque(maxlen=LAST_ITEMS)
        self._items_lock = threading.Lock()
        self._meter = Meter(started=time.monotonic())
        self._rate: float | None = None

    # What a handler calls.

    def progress(
        self, done: float, total: float | None = None, message: str | None = None, *, unit: str | None = None
    ) -> None:
        """Say how far the job is.

        Args:
            done: How many units are done; negative counts as 0.
            total: How many there are, if that is known; less than `done` counts as `done`.
            message: What happens now, for people; the first 500 characters are kept.
            unit: What is counted, for example `files`.

        Raises:
            RunStopped: The run must end; let it through.
            TypeError, ValueError: `done` or `total` is no number.
        """
        if self._stop is not None:
            raise self._stop
        if self._progress is None:
            self._meter.begin(_counted(float(done)), time.monotonic())
        self._progress = (
            done if type(done) is float or type(done) is int else float(done),
            total if total is None or type(total) is float or type(total) is int else float(total),
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
        """Yield the units one by one and report each as done once the loop asks for the next.

        The total is `len(units)` where they have one.
        """
        if total is None and isinstance(units, Sized):
            total = len(units)
        self.progress(0, total, message, unit=unit)
        for done, one in enumerate(units, start=1):
            yield one
            self.progress(done, total, message, unit=unit)

    def emit(self, item: Any) -> None:
        """Show a partial result while the job runs: any JSON value or pydantic model up to 2 KiB.

        Raises:
            ValueError: It is larger, or has no JSON form.
        """
        value = _plain_json(item, "an item", MAX_ITEM)
        with self._items_lock:
            self._item_count += 1
            self._last_items.append(value)
            self._version += 1
        self.checkpoint()

    def save(self, state: Any) -> None:
        """Keep a JSON value of up to 32 KiB for the next attempt, should this one be interrupted or retried.

        It travels with the job. A worker that is killed can't send it along: its job begins with what was saved
        by the attempt before.

        Raises:
            ValueError: It is larger, or has no JSON form.
        """
        self.saved_state = _plain_json(state, "a saved state", MAX_STATE)
        self.checkpoint()

    def create(
        self, name: str, *, media_type: str | None = None, as_result: bool = False
    ) -> AbstractContextManager[BinaryIO]:
        """Open a file for writing, as bytes: `with run.create("report.csv") as file: file.write(b"…")`.

        Whoever looks at the job can download it once the job has ended. Those of an attempt that is not the last are
        forgotten.

        Args:
            name: A relative path, a label only; up to 255 characters.
            media_type: For example `text/csv`; guessed from the name by default.
            as_result: It is the job's result; the handler returns nothing then.

        Raises:
            ValueError: The name is no relative path, or there is such a file, or a result, already, or 100 files.
        """
        steps = name.split("/")
        if not 0 < len(name) <= _NAME or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(steps):
            raise ValueError(f"{name!r} is no relative path of up to {_NAME} printable characters")
        kind = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        if not _MEDIA_TYPE.fullmatch(kind):
            raise ValueError(f"{kind!r} is no media type, such as text/csv")
        if name in self._output_names:
            raise ValueError(f"there is a file {name!r} already")
        if len(self._output_names) >= MAX_OUTPUTS:
            raise ValueError(f"{MAX_OUTPUTS} files are the most")
        if as_result and self._has_result:
            raise ValueError("there is a result already")
        if self._outputs is None:
            raise ValueError("this run has nowhere to write files to")
        self.checkpoint()
        self._output_names.add(name)
        self._has_result |= as_result
        return self._outputs.create(name, media_type=kind, as_result=as_result)

    def checkpoint(self) -> None:
        """Do nothing, unless the run must end.

        Raises:
            RunStopped: The run must end; let it through.
        """
        if self._stop is not None:
            raise self._stop

    # What drives a run calls.

    def stop(self, reason: RunStopped) -> None:
        """Make the handler's next report or checkpoint raise `reason`. The first reason stays."""
        if self._stop is None:
            self._stop = reason

    @property
    def stopped(self) -> RunStopped | None:
        """Why the run must end, if it must."""
        return self._stop

    @property
    def version(self) -> int:
        """Changes whenever the handler reports something."""
        return self._version

    def report(self) -> Report:
        """Return what the handler has told so far, with rate and ETA as of now."""
        version, told = self._version, self._progress
        with self._items_lock:
            items = Items(count=self._item_count, last=tuple(self._last_items))
        return Report(version=version, progress=self._measured(told) if told else None, items=items)

    def _measured(self, told: tuple[float, float | None, str | None, str | None]) -> Progress:
        done, total, message, unit = told
        done = _counted(done)
        total = None if total is None else max(_counted(total), done)
        self._rate = self._meter.sample(done, time.monotonic())
        remaining = eta(done, total, self._rate)
        return Progress(
            done=done,
            total=total,
            percent=None if total is None else (100.0 if total == 0 else round(100 * done / total, 1)),
            unit=_shown(unit, _UNIT),
            message=_shown(message, _MESSAGE),
            rate=None if self._rate is None else round(self._rate, 3),
            eta_seconds=None if remaining is None else round(remaining, 1),
        )


def _plain_json(value: Any, what: str, most: int) -> Any:
    """Return the value as readers of JSON will see it.

    Raises:
        ValueError: It has no JSON form, or is larger or deeper than allowed.
    """
    try:
        encoded = pydantic_core.to_json(value, inf_nan_mode="constants")
        plain = pydantic_core.from_json(encoded, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"{what} has no JSON form: {error}") from error
    if too_deep(plain):
        raise ValueError(f"{what} may have {MAX_DEPTH} levels")
    if len(encoded) > most:
        raise ValueError(f"{what} of {len(encoded)} bytes is more than the {most} allowed")
    return plain


def _counted(number: float) -> float:
    """Reported numbers are the handler's: what is no number, or negative, counts as 0, and the rest has an end."""
    return min(number, _MOST) if number >= 0 else 0


def _shown(text: str | None, length: int) -> str | None:
    return fitting(text, length) if text else None
