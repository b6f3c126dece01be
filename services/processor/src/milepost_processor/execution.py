"""The core: what happens to one delivered job. Claim → started → handler → outcome confirmed → (return, and so) ack.

The order of these steps is laws 5 and 6. Dramatiq acknowledges when `Executor.execute` returns, and the job goes
back to its queue when it raises.
"""

import itertools
import random
import threading
import time
import traceback
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pydantic_core
import structlog
from pydantic import ValidationError

from milepost import Canceled, InputError, Interrupted, JobDefinition, Run
from milepost_contracts.envelope import now
from milepost_contracts.events import (
    JobCanceled,
    JobEvent,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    decode_event,
    encode_event,
)
from milepost_contracts.fleet import RunningJob
from milepost_contracts.values import MAX_DEPTH, MAX_RESULT, Job, JobError, too_deep
from milepost_processor import metrics
from milepost_processor.errors import GateUnavailable, HandlerExited, Stopping
from milepost_processor.ports import Files, Gate, Outbox, Verdict
from milepost_processor.registry import Registry

log = structlog.get_logger(__name__)

GATE_BACK_OFF = (0.1, 2.0)
_MESSAGE, _TRACEBACK = 4_000, 16_000

AsyncRunner = Any  # the type of Dramatiq's EventLoopThread.run_coroutine, which only the composition root knows


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What the broker says of a delivery."""

    #: How often it was delivered before: the fence, which Redis can't forget.
    count: int


@dataclass
class _Execution:
    """One run of a handler, and the events it has led to so far."""

    job: Job
    command: JobSubmitted
    run: Run
    steps: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def event(self, kind: type[JobEvent], **changes: Any) -> JobEvent:
        """Build an event with everything that the handler has reported up to now."""
        report = self.run.report()
        job = self.job.model_copy(
            update={"step": next(self.steps), "progress": report.progress, "items": report.items, **changes}
        )
        return kind(job=job, traceparent=self.command.traceparent)

    def end(self, kind: type[JobEvent], **changes: Any) -> JobEvent:
        return self.event(kind, finished_at=now(), **changes)

    def bare_failure(self, message: str) -> JobEvent:
        """Build an end that takes nothing from the handler: what it reported may be what can't be told."""
        error = JobError(kind="unreportable", message=message)
        changes = {"step": next(self.steps), "finished_at": now(), "error": error}
        return JobFailed(job=self.job.model_copy(update=changes), traceparent=self.command.traceparent)


class Executor:
    """Runs delivered jobs, several at once on several threads."""

    def __init__(
        self,
        registry: Registry,
        *,
        gate: Gate,
        outbox: Outbox,
        files: Files,
        run_async: AsyncRunner,
        instance: str,
        gate_patience: timedelta,
    ) -> None:
        self._registry = registry
        self._gate = gate
        self._outbox = outbox
        self._files = files
        self._run_async = run_async
        self._instance = instance
        self._patience = gate_patience.total_seconds()
        self._running: dict[str, _Execution] = {}
        self._stopping = threading.Event()

    def execute(self, command: JobSubmitted, delivery: Delivery) -> None:
        """Run the job, if the gate says so, and return once its outcome is durable.

        Raises:
            Stopping: The process goes down; the job must go back to its queue.
        """
        job = command.job
        attempt, execution_id = job.attempt + delivery.count + 1, token_hex(4)
        with structlog.contextvars.bound_contextvars(job_id=job.id, attempt=attempt):
            verdict, gated = self._claim(job, attempt, execution_id)
            if verdict is not Verdict.RUN:
                metrics.skipped.labels(verdict=str(verdict)).inc()
                log.info("job_skipped", type=job.type, verdict=str(verdict))
                return
            claimed = job.model_copy(
                update={
                    "attempt": attempt,
                    "execution": execution_id,
                    "worker": self._instance,
                    "started_at": now(),
                    "ungated": not gated,
                }
            )
            self._run(_Execution(claimed, command, self._new_run(claimed)))

    def running(self) -> tuple[RunningJob, ...]:
        """What runs now, for the beat."""
        return tuple(
            RunningJob(id=e.job.id, type=e.job.type, attempt=e.job.attempt, started_at=e.job.started_at or now())
            for e in list(self._running.values())
        )

    def interrupt(self) -> None:
        """Make running handlers stop at their next report, and let nothing new begin."""
        self._stopping.set()
        for execution in list(self._running.values()):
            execution.run.stop(Interrupted())

    def _new_run(self, job: Job) -> Run:
        return Run(job_id=job.id, attempt=job.attempt, files=tuple(self._files.open(ref) for ref in job.files))

    def _claim(self, job: Job, attempt: int, execution: str) -> tuple[Verdict, bool]:
        """Ask the gate until it answers, or patience ends; then the fence alone must do (law 6)."""
        patience_ends = time.monotonic() + self._patience
        pause, longest = GATE_BACK_OFF
        while not self._stopping.is_set():
            try:
                verdict = self._gate.claim(
                    job_id=job.id, run=job.run, attempt=attempt, execution=execution, worker=self._instance
                )
            except GateUnavailable as error:
                if time.monotonic() >= patience_ends:
                    log.warning("gate_ignored", error=str(error))
                    return Verdict.RUN, False
                log.warning("gate_unavailable", error=str(error), retry_in=round(pause, 1))
                self._stopping.wait(pause * random.uniform(0.8, 1.2))
                pause = min(longest, pause * 2)
            else:
                return verdict, True
        raise Stopping

    def _run(self, execution: _Execution) -> None:
        job = execution.job
        self._outbox.post(execution.event(JobStarted))
        log.info("job_started", type=job.type)
        begun = time.monotonic()
        with self._followed(execution):
            outcome = self._outcome(execution)
        self._outbox.deliver(outcome)
        if not outcome.status.terminal:
            raise Stopping
        with suppress(GateUnavailable):
            self._gate.finish(job_id=job.id, run=job.run, attempt=job.attempt, absorbing=outcome.status.absorbing)
        seconds = time.monotonic() - begun
        metrics.finished.labels(type=job.type, status=str(outcome.status)).inc()
        metrics.duration.labels(type=job.type).observe(seconds)
        log.info("job_finished", type=job.type, status=str(outcome.status), seconds=round(seconds, 3))

    @contextmanager
    def _followed(self, execution: _Execution) -> Iterator[None]:
        self._running[execution.job.execution] = execution
        if self._stopping.is_set():
            execution.run.stop(Interrupted())
        self._outbox.follow(execution.run, lambda: execution.event(JobProgressed))
        try:
            yield
        finally:
            self._outbox.unfollow(execution.run)
            del self._running[execution.job.execution]

    def _outcome(self, execution: _Execution) -> JobEvent:
        """Call the handler; whatever it does, something is said of it that every reader understands."""
        try:
            outcome = self._call(execution)
            decode_event(encode_event(outcome))
        except Exception as error:
            log.warning("outcome_unreportable", type=execution.job.type, exc_info=error)
            return execution.bare_failure(
                f"the handler ended, and what it returned, raised or reported can't be told: {type(error).__name__}"
            )
        return outcome

    def _call(self, execution: _Execution) -> JobEvent:  # noqa: PLR0911 - one for each thing a handler can do
        definition = self._registry.definitions[execution.job.type]
        try:
            params = definition.params.model_validate(execution.job.params)
        except ValidationError as error:
            return execution.end(JobFailed, error=JobError(kind="invalid-params", message=_fitting(_places(error))))
        try:
            returned = definition.handler(params, execution.run)
            if definition.is_async:
                returned = self._run_async(_contained(returned))
        except Canceled:
            return execution.end(JobCanceled)
        except Interrupted:
            return execution.event(JobInterrupted, worker=None)
        except InputError as error:
            return execution.end(JobFailed, error=JobError(kind="input-error", message=_fitting(str(error))))
        except BaseException as error:
            log.warning("handler_raised", type=execution.job.type, exc_info=error)
            return execution.end(JobFailed, error=_described(error))
        try:
            result = _as_json(definition, returned)
        except ValueError as error:
            return execution.end(JobFailed, error=JobError(kind="invalid-result", message=_fitting(str(error))))
        return execution.end(JobSucceeded, result=result)


async def _contained(handler: Awaitable[Any]) -> Any:
    """Asyncio lets SystemExit and KeyboardInterrupt end the whole loop, and every async handler with it."""
    try:
        return await handler
    except (SystemExit, KeyboardInterrupt) as error:
        raise HandlerExited(repr(error)) from error


def _as_json(definition: JobDefinition, returned: Any) -> Any:
    """Return the result as the JSON value that travels.

    Raises:
        ValueError: It is not what the handler is annotated to return, has no JSON form, or is too large.
    """
    try:
        encoded = definition.result.dump_json(definition.result.validate_python(returned))
    except ValidationError as error:
        raise ValueError(f"the handler returned something else than it says: {_places(error)}") from error
    if len(encoded) > MAX_RESULT:
        raise ValueError(f"the result has {len(encoded)} bytes as JSON; {MAX_RESULT} are allowed")
    result = pydantic_core.from_json(encoded, allow_inf_nan=False)
    if too_deep(result):
        raise ValueError(f"the result may have {MAX_DEPTH} levels")
    return result


def _described(error: BaseException) -> JobError:
    text = "".join(traceback.format_exception(error))
    return JobError(
        kind="exception",
        message=_fitting(str(error)) or type(error).__name__,
        exception=type(error).__qualname__[:200],
        traceback=text[-_TRACEBACK:].encode(errors="replace").decode(),
    )


def _places(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:20])


def _fitting(text: str) -> str:
    """Half a surrogate pair has no UTF-8: what a handler raises must not make its event impossible."""
    return text[:_MESSAGE].encode(errors="replace").decode()
