"""Run a handler in-process, with no broker: `outcome = run_handler(crunch, {"limit": 100})`."""

import asyncio
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from milepost.errors import Canceled
from milepost.job import _MARK, JobDefinition
from milepost.run import File, Run
from milepost_contracts.values import Items, Progress


@dataclass(frozen=True)
class MemoryFile:
    """A file for a handler under test."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> BinaryIO:
        return BytesIO(self.content)


class MemoryOutputs:
    """See `milepost.run.Outputs`: keeps what is written."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    @contextmanager
    def create(self, name: str, *, media_type: str, as_result: bool) -> Iterator[BinaryIO]:
        del media_type, as_result
        file = BytesIO()
        yield file
        self.written[name] = file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a handler did."""

    #: What it returned, as the JSON value that a client would get.
    result: Any
    #: Every progress report, in order.
    progress: tuple[Progress, ...]
    items: Items
    #: What it saved last, if it did.
    saved_state: Any
    #: What it wrote, by name.
    outputs: Mapping[str, bytes]


class _RecordingRun(Run):
    def __init__(self, *, files: Sequence[File], cancel_at: int | None, saved_state: Any, attempt: int) -> None:
        self.outputs = MemoryOutputs()
        super().__init__(
            job_id="test", attempt=attempt, files=tuple(files), saved_state=saved_state, outputs=self.outputs
        )
        self.recorded: list[Progress] = []
        self._cancel_at = cancel_at

    def progress(
        self, done: float, total: float | None = None, message: str | None = None, *, unit: str | None = None
    ) -> None:
        super().progress(done, total, message, unit=unit)
        report = self.report().progress
        if report is not None:
            self.recorded.append(report)
        if self._cancel_at is not None and len(self.recorded) >= self._cancel_at:
            self.stop(Canceled())


def run_handler(
    handler: Any,
    params: Mapping[str, Any],
    *,
    files: Sequence[File] = (),
    cancel_at: int | None = None,
    saved_state: Any = None,
    attempt: int = 1,
) -> Outcome:
    """Validate the params as a processor would, call the handler, and return what it did.

    Args:
        handler: A function that `@job` decorates, sync or async.
        params: As a client would send them.
        files: What `run.files` holds.
        cancel_at: Cancel the run after so many progress reports; the next report or checkpoint raises `Canceled`.
        saved_state: What an attempt before has saved.
        attempt: Which attempt this is.
    """
    definition: JobDefinition = getattr(handler, _MARK)
    run = _RecordingRun(files=files, cancel_at=cancel_at, saved_state=saved_state, attempt=attempt)
    returned = definition.handler(definition.params.model_validate(params), run)
    if inspect.isawaitable(returned):
        returned = asyncio.run(_awaited(returned))
    return Outcome(
        result=definition.result.dump_python(returned, mode="json"),
        progress=tuple(run.recorded),
        items=run.report().items,
        saved_state=run.saved_state,
        outputs=run.outputs.written,
    )


async def _awaited(value: Any) -> Any:
    return await value
