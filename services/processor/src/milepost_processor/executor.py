"""The core: what happens to one delivered job. Claim → handler (start, progress) → outcome confirmed → (return) → ack.

The order of these steps is laws 5 and 6. Dramatiq acknowledges when `Executor.execute` returns, and the job goes
back to its queue when it raises. Whatever puts a job off (retry, interrupt) is published first, and then acknowledged.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex

import structlog

from milepost import Canceled, Interrupted, JobDefinition, Run
from milepost_contracts.document import expired, start_by
from milepost_contracts.envelope import now
from milepost_contracts.events import Command, JobCanceled, JobEvent, JobPostponed, JobProgressed, JobStarted
from milepost_contracts.fleet import RunningJob
from milepost_contracts.values import LAST_ATTEMPTS, Attempt, Items, Job
from milepost_processor import metrics
from milepost_processor.errors import DeliveredTooOften, GateUnavailable, Stopping
from milepost_processor.execution import Execution
from milepost_processor.outcome import outcome_of
from milepost_processor.ports import AsyncRunner, Claim, Files, Gate, Outbox, Outputs, Verdict
from milepost_processor.registry import Registry
from milepost_processor.waits import Waits

log = structlog.get_logger(__name__)

GATE_BACK_OFF = (0.1, 2.0)
LOOK_AGAIN = timedelta(seconds=3)
"""How long a job is put off that was delivered again while its holder lives."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What the broker says of a delivery."""

    #: How often it was delivered before: the fence, which Redis can't forget.
    count: int
    #: How many of those count towards the delivery limit.
    failed: int = 0


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
        delivery_limit: int,
        waits: Waits,
    ) -> None:
        self._registry = registry
        self._gate = gate
        self._outbox = outbox
        self._files = files
        self._run_async = run_async
        self._instance = instance
        self._delivery_limit = delivery_limit
        self._waits = waits
        self._patience = gate_patience.total_seconds()
        self._running: dict[str, Execution] = {}
        self._stopping = threading.Event()

    def execute(self, command: Command, delivery: Delivery) -> None:
        """Run the job, if the gate says so, and return once its outcome is durable.

        Raises:
            Stopping: The process goes down; the job must go back to its queue.
            DeliveredTooOften: The job must go to the undertaker.
        """
        job, definition = command.job, self._registry.definitions[command.job.type]
        redelivered = job.redelivered + delivery.failed
        if redelivered > self._delivery_limit:
            raise DeliveredTooOften  # the broker sees this message's own deliveries alone
        turn, execution_id = job.turn + delivery.count + 1, token_hex(4)
        with structlog.contextvars.bound_contextvars(job_id=job.id, turn=turn):
            claim, gated = self._claim(job, turn, execution_id)
            if claim.verdict not in (Verdict.RUN, Verdict.CANCELED):
                self._skip(job, claim)
                if claim.verdict is Verdict.ALIVE:
                    self._postpone(command, turn=turn, redelivered=redelivered)
                return
            claimed = self._claimed(job, claim, definition, turn=turn, execution=execution_id, ungated=not gated)
            outputs = self._files.outputs(claimed)
            execution = Execution(claimed, command, self._new_run(claimed, outputs), outputs)
            if claim.verdict is Verdict.CANCELED:
                self._cancel(execution, claim)
            elif _came_too_late(claimed):
                self._settle(execution, expired(job))
            else:
                self._run(execution, definition)

    def running(self) -> tuple[Execution, ...]:
        """What runs now."""
        return tuple(self._running.values())

    def running_jobs(self) -> tuple[RunningJob, ...]:
        """The same, for the beat."""
        jobs = [execution.job for execution in self.running()]
        return tuple(
            RunningJob(id=job.id, type=job.type, attempt=job.attempt, started_at=job.started_at or now())
            for job in jobs
        )

    def cancel(self, job_id: str, run: int) -> None:
        """Ask a running job to stop, if it runs here."""
        for execution in self.running():
            if (execution.job.id, execution.job.run) == (job_id, run):
                log.info("cancel_received", job_id=job_id)
                execution.stop(Canceled())

    def interrupt(self) -> None:
        """Make running handlers stop at their next report, and let nothing new begin."""
        self._stopping.set()
        for execution in self.running():
            execution.stop(Interrupted())

    def _new_run(self, job: Job, outputs: Outputs) -> Run:
        return Run(
            job_id=job.id,
            attempt=job.attempt,
            token=f"{job.run:04d}.{job.turn:08d}.{job.execution}",
            files=tuple(self._files.open(ref) for ref in job.files),
            saved_state=job.saved_state,
            outputs=outputs,
        )

    def _claimed(
        self, job: Job, claim: Claim, definition: JobDefinition, *, turn: int, execution: str, ungated: bool
    ) -> Job:
        """Return the job as it is while this execution has it."""
        earlier = [one.settled for one in claim.earlier]
        this = Attempt(number=claim.attempt, worker=self._instance, started_at=claim.at)
        return job.model_copy(
            update={
                "turn": turn,
                "attempt": claim.attempt,
                "attempts": (*earlier, this)[-LAST_ATTEMPTS:],
                "execution": execution,
                "step": 0,
                "redelivered": 0,
                "quarantined": 0,
                "worker": self._instance,
                "started_at": claim.at,
                "max_runtime": definition.max_runtime,
                "progress": None,
                "items": Items(),
                "error": None,
                "ungated": ungated,
            }
        )

    def _skip(self, job: Job, claim: Claim) -> None:
        metrics.skipped.labels(verdict=str(claim.verdict)).inc()
        log.info("job_skipped", type=job.type, verdict=str(claim.verdict))

    def _postpone(self, command: Command, **counted: int) -> None:
        """Have the job delivered again a little later, as a turn that may take over should its holder be gone then."""
        later = command.job.model_copy(update={**counted, "run_at": now() + LOOK_AGAIN})
        self._outbox.deliver(JobPostponed(job=later, traceparent=command.traceparent))

    def _cancel(self, execution: Execution, claim: Claim) -> None:
        """End a canceled job before it begins. The tracker may say so too; somebody must, for the message is gone."""
        self._skip(execution.job, claim)
        told = {"attempts": execution.job.attempts[:-1], "attempt": claim.attempt - 1, "canceled_how": "before-start"}
        self._settle(execution, execution.event(JobCanceled, finished_at=now(), **told))

    def _claim(self, job: Job, turn: int, execution: str) -> tuple[Claim, bool]:
        """Ask the gate until it answers, or patience ends; then the fence alone must do (law 6)."""
        patience_ends = time.monotonic() + self._patience
        pause, longest = GATE_BACK_OFF
        while not self._stopping.is_set():
            try:
                claim = self._gate.claim(job, turn=turn, execution=execution, worker=self._instance)
            except GateUnavailable as error:
                if time.monotonic() >= patience_ends:
                    log.warning("gate_ignored", error=str(error))
                    return Claim(verdict=Verdict.RUN, attempt=job.attempt + 1, earlier=job.attempts), False
                log.warning("gate_unavailable", error=str(error), retry_in=round(pause, 1))
                self._stopping.wait(pause * random.uniform(0.8, 1.2))
                pause = min(longest, pause * 2)
            else:
                return claim, True
        raise Stopping

    def _run(self, execution: Execution, definition: JobDefinition) -> None:
        job = execution.job
        if job.attempt == 1 and job.started_at is not None:
            self._waits.note(job.queue, job.started_at - (job.run_at or job.created_at))
        log.info("job_started", type=execution.job.type)
        begun = time.monotonic()
        with self._followed(execution):
            outcome = outcome_of(execution, definition, self._run_async)
        if outcome is None:
            log.info("job_left", type=execution.job.type, reason="another attempt has it")
            return
        self._settle(execution, outcome)
        if outcome.status.terminal:
            metrics.duration.labels(type=execution.job.type).observe(time.monotonic() - begun)

    def _settle(self, execution: Execution, outcome: JobEvent) -> None:
        """Return once the outcome is durable; it may be acknowledged then (law 5)."""
        self._outbox.deliver(outcome)
        log.info("job_settled", type=execution.job.type, status=str(outcome.status), attempt=execution.job.attempt)
        counter = metrics.finished if outcome.status.terminal else metrics.put_back
        counter.labels(type=execution.job.type, status=str(outcome.status)).inc()
        if outcome.status.terminal:
            with suppress(GateUnavailable):
                self._gate.finish(execution.job, absorbing=outcome.status.absorbing)

    @contextmanager
    def _followed(self, execution: Execution) -> Iterator[None]:
        self._running[execution.job.execution] = execution
        if self._stopping.is_set():
            execution.stop(Interrupted())
        self._outbox.follow(
            execution.run,
            started=lambda: execution.event(JobStarted),
            progressed=lambda: execution.event(JobProgressed),
        )
        try:
            yield
        finally:
            self._outbox.unfollow(execution.run)
            del self._running[execution.job.execution]


def _came_too_late(claimed: Job) -> bool:
    """Whether nobody has started the job in time. A redelivery comes to the same: the first attempt decides."""
    first = claimed.attempts[0]
    return first.number == 1 and first.started_at > start_by(claimed)
