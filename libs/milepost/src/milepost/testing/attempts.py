"""Runs one attempt of a job in-process."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from milepost.attempt import call
from milepost.errors import Canceled, RunStopped
from milepost.files import File
from milepost.job import JobDefinition, definition_of
from milepost.masking import Masking
from milepost.run import Run
from milepost.testing.files import MemoryOutputs
from milepost_contracts.secret_params import SecretParams
from milepost_contracts.values import Items, Progress


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one attempt."""

    #: The returned value, as the JSON value that a client would get.
    result: Any
    #: Every progress report, in order.
    progress: tuple[Progress, ...]
    items: Items
    #: The last saved state, or `None`.
    saved_state: Any
    #: The contents of the files that it wrote, by name.
    outputs: Mapping[str, bytes]


class RecordingRun(Run):
    """Records every progress report, and stops the handler after given numbers of them."""

    def __init__(
        self,
        *,
        attempt: int,
        files: Sequence[File],
        saved_state: Any,
        earlier_outputs: Iterable[str] = (),
        stop_at: Mapping[int, RunStopped],
        masking: Masking,
    ) -> None:
        self.outputs = MemoryOutputs()
        super().__init__(
            job_id="test",
            attempt=attempt,
            token=f"0001.{attempt:08d}.00000000",
            files=tuple(files),
            saved_state=saved_state,
            outputs=self.outputs,
            earlier_outputs=earlier_outputs,
            masking=masking,
        )
        self.recorded: list[Progress] = []
        self._stop_at = stop_at

    def progress(
        self, done: float, total: float | None = None, message: str | None = None, *, unit: str | None = None
    ) -> None:
        super().progress(done, total, message, unit=unit)
        report = self.report().progress
        if report is not None:
            self.recorded.append(report)
        if (reason := self._stop_at.get(len(self.recorded))) is not None:
            self.stop(reason)


def run_handler(
    handler: Any,
    params: Mapping[str, Any],
    *,
    files: Sequence[File] = (),
    cancel_at: int | None = None,
    saved_state: Any = None,
    attempt: int = 1,
) -> Outcome:
    """Validate the params as a processor does, call the handler once, and return the outcome.

    Exceptions of the handler propagate, for `pytest.raises(InputError)`.

    Args:
        handler: A function decorated with `@job`, sync or async.
        params: As a client would send them.
        files: The value of `run.files`: `MemoryFile("name", b"content")`.
        cancel_at: Cancel the run after this many progress reports; the next report or checkpoint raises `Canceled`.
        saved_state: The state that an earlier attempt saved.
        attempt: The number of the attempt.

    Raises:
        pydantic.ValidationError: The params are invalid.
        InvalidResult: The returned value does not match the return annotation, or has no JSON form.
    """
    definition = definition_of(handler)
    run = RecordingRun(
        files=files,
        stop_at={} if cancel_at is None else {cancel_at: Canceled()},
        saved_state=saved_state,
        attempt=attempt,
        masking=masking_of(definition, params),
    )
    try:
        _, result = call(definition, definition.params.model_validate(params), run, wait_for)
    finally:
        run.close()
    return Outcome(
        result=result,
        progress=tuple(run.recorded),
        items=run.report().items,
        saved_state=run.saved_state,
        outputs=run.outputs.written,
    )


def masking_of(definition: JobDefinition, params: Mapping[str, Any]) -> Masking:
    """Return what masks the secret params, as a gateway finds them and a processor masks them."""
    schema = SecretParams(definition.params_schema())
    _, secrets = schema.split(params)
    return Masking(secrets.values(), schema.names)


def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Await what an async handler returned; on a separate thread if an event loop is running, as in an async test."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(awaitable))
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _awaited(awaitable)).result()


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
