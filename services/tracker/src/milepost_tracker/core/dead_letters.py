"""Handles dead letters: most jobs get a second chance in quarantine, the others end as `dead_lettered`.

A job that a processor has rejected may be for another one: it is put off while a live processor may run it (ADR 30).

A job that was delivered too often may have killed its workers, or only have run beside one that did. In quarantine each
processor runs one job at a time. A job that was started there and comes back ends as `dead_lettered`, and can be
redriven. An unreadable message is kept in the poison queue, for people.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import (
    COMMANDS,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobQuarantined,
)
from milepost_contracts.messages.topology import MAX_DELIVERIES
from milepost_contracts.messages.trust import Trust, believable
from milepost_contracts.status.document import DEAD_LETTERED
from milepost_contracts.values import MAX_STATED_DELIVERY, Job, JobError, Moment, PutOff, later_delivery
from milepost_tracker import metrics
from milepost_tracker.core.projector import FAULTS, Poison, note_fault, until_stored
from milepost_tracker.ports.consumer import Delivery
from milepost_tracker.ports.event_publisher import REASON_HEADER, EventPublisher
from milepost_tracker.ports.poison_store import PoisonStore
from milepost_tracker.ports.status_store import ClaimState, StatusStore
from milepost_tracker.ports.worker_store import WorkerStore

log = structlog.get_logger(__name__)
D = TypeVar("D", bound=Delivery)
_MOMENT = TypeAdapter[datetime](Moment)

HELD_DELAY = timedelta(seconds=5)
"""How long a job is postponed that a processor still runs."""
PUT_OFF_DELAY = timedelta(seconds=10)
"""How long a job is put off that a processor can't run and another one may."""
UNSERVED_AFTER = timedelta(minutes=5)
"""A job that no live processor can run, by their announcements, ends after this time."""


class DeadLetterHandler:
    """Handles the messages of the dead-letter queue."""

    def __init__(
        self, trust: Trust, publisher: EventPublisher, poison: PoisonStore, store: StatusStore, workers: WorkerStore
    ) -> None:
        self._trust = trust
        self._publisher = publisher
        self._store = store
        self._poison = poison
        self._workers = workers

    async def handle(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once the event that follows each message is durable; never returns a message as poison."""
        for delivery in deliveries:
            if reason := delivery.headers.get(REASON_HEADER):  # a tracker has set it aside
                await self._keep(delivery, str(reason))
                continue
            try:
                await self._follow(delivery)
            except FAULTS as error:
                await self._keep(delivery, note_fault(error, queue=delivery.queue))
        return []

    async def _follow(self, delivery: Delivery) -> None:
        event = self._trust.job_message(delivery.received)
        if not isinstance(event, COMMANDS):
            await self._keep(delivery, f"{event.fact} is not a command")
        elif (next_event := await self._next_event(event, delivery)) is not None:
            await self._publisher.publish(next_event)

    async def _next_event(self, command: JobEvent, delivery: Delivery) -> JobEvent | None:
        """Return the event that follows a dead-lettered command, or `None` if its run is over."""
        job, died = command.job, _death(delivery.headers)
        if job.delivery == MAX_STATED_DELIVERY:
            return _dead_lettered(command, died, "Its message states the highest delivery number: none can follow.")
        if died.reason == "rejected" and not job.redelivered:
            return await self._unserved(command, died) or _put_off(command, died.at)
        match await until_stored(lambda: self._store.claim_state(job)):
            case ClaimState.OVER:
                log.info("job_is_over", job_id=job.id)
                return None
            case ClaimState.HELD:
                # Its processor ends it, or dies: then it comes back here, because its delivery count stays too high.
                log.info("job_is_held", job_id=job.id)
                later = {"run_at": died.at + HELD_DELAY, "redelivered": MAX_DELIVERIES}
                return _followed_by(JobPostponed, command, died.at, **later)
            case ClaimState.STARTED if job.quarantined:
                why = "It was delivered too often, in quarantine too: its worker died each time."
                return _dead_lettered(command, died, why, **await self._attempts_of(job))
        log.warning("job_quarantined", job_id=job.id)
        metrics.quarantined.inc()
        changes = {"quarantined": later_delivery(job.delivery, MAX_DELIVERIES), **await self._attempts_of(job)}
        return _followed_by(JobQuarantined, command, died.at, **changes)

    async def _unserved(self, command: JobEvent, died: "_Death") -> JobEvent | None:
        """Return the end of a job that no live processor can run; nothing if one may, or if that is not known."""
        job = command.job
        versions = await until_stored(lambda: self._workers.versions(job.type, queue=job.queue, within=UNSERVED_AFTER))
        if versions is None:
            return None
        minutes = f"{UNSERVED_AFTER.total_seconds() / 60:g} minutes"
        if not versions:
            why = f"No live processor of the queue {job.queue} has announced the type {job.type} in the last {minutes}."
            return _dead_lettered(command, died, why)
        refusal = job.put_off and job.put_off.refusal
        if refusal and job.type_version not in versions:
            message = (
                f"The live processors run another version of the type {job.type} than the params were checked "
                f"against, and one has refused them: {refusal}"
            )
            error = JobError(kind="invalid-params", message=message)
            return _followed_by(JobFailed, command, died.at, error=error, finished_at=died.at)
        return None

    async def _attempts_of(self, job: Job) -> dict[str, Any]:
        """Return the attempts of this run, as changes of the job; its message does not know of those that died.

        The claim has all of them. Where it has expired, the view has those that lasted long enough to be reported.
        """
        attempts = await until_stored(lambda: self._store.attempts(job))
        for known in await until_stored(lambda: self._store.jobs([job.id])):
            if known.job.run == job.run and len(known.job.attempts) > len(attempts):
                attempts = known.job.attempts
        if not attempts or attempts[-1].number <= job.attempt:
            return {}
        ended = [one.closed for one in attempts]
        return {"attempt": ended[-1].number, "attempts": tuple(ended), "started_at": ended[-1].started_at}

    async def _keep(self, delivery: Delivery, reason: str) -> None:
        queue = _death(delivery.headers).queue
        metrics.poison.inc()
        log.warning("poison_kept", queue=queue, reason=reason)
        await self._publisher.publish_poison(delivery.received.body, queue=queue, reason=reason)
        await until_stored(
            lambda: self._poison.record(delivery.received.body, queue=queue, reason=reason, at=now()),
        )


class _Death:
    """How a message was dead-lettered, by the broker's `x-death` header."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.reason = str(entry.get("reason", "unknown"))
        self.queue = str(entry.get("queue", "unknown"))
        #: The broker's time, if it is in the header: the same for every tracker.
        self.at = _moment(entry.get("time"))


def _moment(value: object) -> datetime:
    """Return a time in a header; now, if no event may state it: a publisher may have written the header."""
    try:
        return believable(_MOMENT.validate_python(value))
    except ValidationError:
        return now()


def _death(headers: Mapping[str, Any]) -> _Death:
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    # A message that the tracker itself has dead-lettered has no such header.
    return _Death({"queue": headers.get("x-first-queue", "unknown"), **latest})


def _dead_lettered(command: JobEvent, died: _Death, why: str, **changes: Any) -> JobEvent:
    log.warning("job_dead_lettered", job_id=command.job.id, reason=why)
    metrics.dead_lettered_jobs.inc()
    error = JobError(kind=DEAD_LETTERED, message=f"The job was dead-lettered. {why}")
    return _followed_by(JobFailed, command, died.at, error=error, finished_at=died.at, **changes)


def _put_off(command: JobEvent, at: datetime) -> JobEvent:
    """Build the message with which a job waits for a processor that can run it."""
    earlier = command.job.put_off or PutOff(until=at)
    put_off = earlier.model_copy(update={"since": earlier.since or at, "until": at + PUT_OFF_DELAY})
    run_at = command.job.run_at or command.job.created_at  # earlier releases require one
    return _followed_by(JobPostponed, command, at, put_off=put_off, run_at=run_at)


def _followed_by(kind: type[JobEvent], command: JobEvent, at: datetime, **changes: Any) -> JobEvent:
    """Build the event that follows on a command: its delivery number is beyond every delivery of the command."""
    fence = {
        "delivery": later_delivery(command.job.delivery, MAX_DELIVERIES),
        "execution": "0" * 8,
        "step": 0,
        "worker": None,
        "redelivered": 0,
        "put_off": None,
    }
    job = command.job.model_copy(update=fence | changes)
    return kind(job=job, time=at, traceparent=command.traceparent).with_derived_id()
