"""Runs one delivered job: claim → handler (start, progress) → outcome recorded → confirmed → return → acknowledgement.

The order of these steps is laws 5 and 6. Dramatiq acknowledges the message when `Runner.execute` returns, and puts it
back in its queue when it raises. A retry or an interruption is an outcome too. The outcome is recorded in the claim
before it is published: a redelivery publishes the same one, and never runs the job again (ADR 31).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex

import structlog

from milepost import Canceled, Interrupted, JobDefinition, Run
from milepost.masking import NOTHING_SECRET, Masking
from milepost_contracts.back_off import BackOff
from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    Command,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobProgressed,
    JobStarted,
)
from milepost_contracts.messages.worker_events import RunningJob
from milepost_contracts.status.deadlines import start_by
from milepost_contracts.status.ends import canceled_before_start, expired
from milepost_contracts.values import MAX_LISTED_ATTEMPTS, Attempt, Items, Job, JobError, later_delivery
from milepost_processor import metrics
from milepost_processor.core.execution import Execution
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.outcome import outcome_of
from milepost_processor.core.outcomes import Outcomes
from milepost_processor.core.queue_wait import QueueWait
from milepost_processor.core.resume import load_state
from milepost_processor.core.secret_params import OpenedParams, ParamsOpener
from milepost_processor.errors import ClaimsUnavailable, DeliveredTooOften, SecretsUnreadable, Stopping
from milepost_processor.ports.async_runner import AsyncRunner
from milepost_processor.ports.claims import Claim, Claims, Verdict
from milepost_processor.ports.event_publisher import EventPublisher
from milepost_processor.ports.files import Files, Outputs

log = structlog.get_logger(__name__)

MAX_CLAIM_PAUSE = 2.0
"""The longest pause between two claims while Redis does not answer, in seconds, before its jitter."""
CLAIMED_DELAY = timedelta(seconds=3)
"""How long a job is postponed if it is redelivered while another processor runs it."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How often the broker has delivered a message."""

    #: How often it was delivered before. The delivery number follows from it, so it does not depend on Redis.
    count: int
    #: How many of those count towards the delivery limit.
    failed: int = 0


class Runner:
    """Runs delivered jobs, several at once on several threads."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        opener: ParamsOpener,
        claims: Claims,
        publisher: EventPublisher,
        files: Files,
        run_async: AsyncRunner,
        instance: str,
        claim_patience: timedelta,
        delivery_limit: int,
        queue_wait: QueueWait,
    ) -> None:
        self._handlers = handlers
        self._opener = opener
        self._claims = claims
        self._publisher = publisher
        self._files = files
        self._run_async = run_async
        self._instance = instance
        self._delivery_limit = delivery_limit
        self._queue_wait = queue_wait
        self._patience = claim_patience.total_seconds()
        self._running: dict[str, Execution] = {}
        self._held: dict[str, Execution] = {}
        #: Its `record_confirmed` is to be called about every second.
        self.outcomes = Outcomes(claims, publisher)
        self._stopping = threading.Event()

    def execute(self, command: Command, delivery: Delivery) -> None:
        """Run the job, if it can be claimed, and return once its outcome is durable.

        Raises:
            Stopping: The process stops; the message must go back to its queue.
            DeliveredTooOften: The message must go to the dead-letter queue.
        """
        job, definition = command.job, self._handlers.definitions[command.job.type]
        redelivered = job.redelivered + delivery.failed
        # The broker counts the deliveries of this message only, not of earlier ones.
        too_often = redelivered > self._delivery_limit
        number, execution_id = later_delivery(job.delivery, delivery.count + 1), token_hex(4)
        with structlog.contextvars.bound_contextvars(job_id=job.id, delivery=number):
            claim, is_claimed = self._claim(job, delivery, execution_id, may_run=not too_often)
            if claim.verdict not in (Verdict.RUN, Verdict.CANCELED, Verdict.EXPIRED):
                self._skip(job, claim)
                if claim.verdict is Verdict.ALIVE:
                    self._postpone(command, delivery=number, redelivered=redelivered)
                elif claim.outcome is not None:
                    self.outcomes.publish(claim.outcome)
                return
            if too_often and claim.verdict is Verdict.RUN:
                raise DeliveredTooOften
            claimed = self._claimed_job(
                job, claim, definition, delivery=number, execution=execution_id, unclaimed=not is_claimed
            )
            if claim.verdict is Verdict.CANCELED:
                self._cancel(self._new_execution(claimed, command), command, claim)
            elif claim.verdict is Verdict.EXPIRED:
                self._skip(job, claim)
                self._conclude(self._new_execution(claimed, command), expired(job))
            else:
                self._open_and_run(claimed, command, definition)

    def running(self) -> tuple[Execution, ...]:
        """Return the executions whose handler is running."""
        return tuple(self._running.values())

    def held(self) -> tuple[Execution, ...]:
        """Return the executions that run, or whose outcome is not confirmed yet."""
        return tuple(self._held.values())

    def running_jobs(self) -> tuple[RunningJob, ...]:
        """Return the jobs that run, or whose outcome is not confirmed yet, for the heartbeat."""
        jobs = [execution.job for execution in self.held()]
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
        """Make running handlers stop at their next report, and start no new ones."""
        self._stopping.set()
        for execution in self.running():
            execution.stop(Interrupted())

    def _new_execution(self, job: Job, command: Command, opened: OpenedParams | None = None) -> Execution:
        outputs = self._files.outputs(job)
        if opened is None:
            return Execution(job, command, self._new_run(job, command.job, outputs), outputs)
        run = self._new_run(job, command.job, outputs, masking=opened.masking)
        return Execution(job, command, run, outputs, opened.params)

    def _new_run(self, job: Job, message: Job, outputs: Outputs, masking: Masking = NOTHING_SECRET) -> Run:
        return Run(
            masking=masking,
            job_id=job.id,
            attempt=job.attempt,
            token=f"{job.run:04d}.{job.delivery:08d}.{job.execution}",
            files=tuple(self._files.open(ref) for ref in job.files),
            saved_state=lambda: load_state(job, message, self._files),
            outputs=outputs,
            earlier_outputs=[file.name for file in job.outputs],
        )

    def _claimed_job(
        self, job: Job, claim: Claim, definition: JobDefinition, *, delivery: int, execution: str, unclaimed: bool
    ) -> Job:
        """Return the job as it is while this execution runs it."""
        earlier = [one.closed for one in claim.earlier]
        this = Attempt(number=claim.attempt, worker=self._instance, started_at=claim.at)
        return job.model_copy(
            update={
                "delivery": delivery,
                "attempt": claim.attempt,
                "attempts": (*earlier, this)[-MAX_LISTED_ATTEMPTS:],
                "execution": execution,
                "step": 0,
                "redelivered": 0,
                "quarantined": 0,
                "put_off": None,
                "worker": self._instance,
                "started_at": claim.at,
                "max_runtime": definition.max_runtime,
                "progress": None,
                "items": Items(),
                "error": None,
                "unclaimed": unclaimed,
                **(claim.resume_point.changes if claim.resume_point else {}),
            }
        )

    def _skip(self, job: Job, claim: Claim) -> None:
        metrics.skipped.labels(verdict=str(claim.verdict)).inc()
        log.info("job_skipped", type=job.type, verdict=str(claim.verdict))

    def _postpone(self, command: Command, **counted: int) -> None:
        """Have the job delivered again later: that delivery may take over if the other processor is dead by then."""
        changes = {**counted, "run_at": now() + CLAIMED_DELAY, "put_off": None}
        later = command.job.model_copy(update=changes)
        self._publisher.publish(JobPostponed(job=later, traceparent=command.traceparent))

    def _cancel(self, execution: Execution, command: Command, claim: Claim) -> None:
        """End a canceled job that has not started, as a tracker does: this message is acknowledged next.

        If attempts were lost with their processor, the tracker leaves the end to this message.
        """
        self._skip(execution.job, claim)
        at = claim.cancel_requested_at or now()
        waiting = command.job
        if claim.earlier != waiting.attempts:
            waiting = execution.job.model_copy(
                update={
                    "attempts": execution.job.attempts[:-1],
                    "attempt": claim.attempt - 1,
                    "started_at": claim.earlier[-1].started_at if claim.earlier else None,
                }
            )
        self._conclude(execution, canceled_before_start(waiting, requested_at=at))

    def _claim(self, job: Job, delivery: Delivery, execution: str, *, may_run: bool) -> tuple[Claim, bool]:
        """Return the claim, and whether Redis granted it.

        While Redis does not answer, the claim is repeated for `claim_patience`. Then the job runs without a claim, and
        the delivery number alone fences its events (law 6).
        """
        number = job.delivery + delivery.count + 1
        patience_ends = time.monotonic() + self._patience
        back_off = BackOff(longest=MAX_CLAIM_PAUSE)
        while not self._stopping.is_set():
            try:
                claim = self._claims.claim(
                    job, delivery=number, execution=execution, worker=self._instance, may_run=may_run
                )
            except ClaimsUnavailable as error:
                if time.monotonic() >= patience_ends:
                    log.warning("running_without_claim", error=str(error))
                    # Each earlier delivery may have been an attempt: numbers of attempts never go back.
                    attempt = job.attempt + delivery.count + 1
                    in_time = attempt > 1 or now() <= start_by(job)
                    verdict = Verdict.RUN if in_time else Verdict.EXPIRED
                    return Claim(verdict=verdict, attempt=attempt, earlier=job.attempts), False
                pause = back_off.next()
                log.warning("claims_unavailable", error=str(error), retry_in=round(pause, 1))
                self._stopping.wait(pause)
            else:
                return claim, True
        raise Stopping

    def _open_and_run(self, job: Job, command: Command, definition: JobDefinition) -> None:
        try:
            opened = self._opener.open(job)
        except SecretsUnreadable as unreadable:
            log.warning("secrets_unreadable", type=job.type, error=str(unreadable))
            message = f"the secret params can't be opened: {unreadable}"
            execution, error = self._new_execution(job, command), JobError(kind="secrets-unreadable", message=message)
            self._conclude(execution, execution.end(JobFailed, f"{error.kind}: {message}", error=error))
            return
        with self._opener.masking_logs(opened):
            self._run(self._new_execution(job, command, opened), definition)

    def _run(self, execution: Execution, definition: JobDefinition) -> None:
        job = execution.job
        if job.attempt == 1 and job.started_at is not None:
            self._queue_wait.record(job.queue, job.started_at - (job.run_at or job.created_at))
        log.info("job_started", type=execution.job.type)
        begun = time.monotonic()
        with self._holding(execution):
            with self._reporting(execution):
                outcome = outcome_of(execution, definition, self._run_async)
            if outcome is None:
                log.info("job_superseded", type=execution.job.type)
                return
            self._conclude(execution, outcome)
        if outcome.status.terminal:
            metrics.duration.labels(type=execution.job.type).observe(time.monotonic() - begun)

    def _conclude(self, execution: Execution, outcome: JobEvent) -> None:
        """Return once the outcome is durable, or another end stands: the message may be acknowledged then (law 5)."""
        if (published := self.outcomes.conclude(execution.job, outcome)) is not None:
            execution.resume.published(published.job)

    @contextmanager
    def _holding(self, execution: Execution) -> Iterator[None]:
        self._held[execution.job.execution] = execution
        try:
            yield
        finally:
            del self._held[execution.job.execution]

    @contextmanager
    def _reporting(self, execution: Execution) -> Iterator[None]:
        self._running[execution.job.execution] = execution
        if self._stopping.is_set():
            execution.stop(Interrupted())
        self._publisher.report(
            execution.run,
            started=lambda: execution.event(JobStarted),
            progressed=lambda: execution.event(JobProgressed),
        )
        try:
            yield
        finally:
            execution.run.close()
            self._publisher.stop_reporting(execution.run)
            del self._running[execution.job.execution]
