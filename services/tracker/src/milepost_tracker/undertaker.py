"""Looks at what the broker gave up: most of it gets another chance, the rest is told of and kept.

A job that was delivered too often may have killed its workers, or only have been beside one that did. It is put in
quarantine, where it is beside nobody like it; if it was started there and comes back, it ends as `dead_lettered`, and
can be redriven. What can't be read is kept in the poison queue, for people.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

import structlog

from milepost_contracts.document import GIVEN_UP
from milepost_contracts.envelope import now
from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import COMMANDS, JobEvent, JobFailed, JobPostponed, JobQuarantined, decode_event
from milepost_contracts.topology import MOST_DELIVERIES
from milepost_contracts.values import Job, JobError
from milepost_tracker import metrics
from milepost_tracker.ports import Delivery, Outbox, PoisonStore, Standing, StatusStore
from milepost_tracker.projector import Poison, until_stored

log = structlog.get_logger(__name__)
D = TypeVar("D", bound=Delivery)

LOOK_AGAIN = timedelta(seconds=5)
"""How long a job is put off whose holder lives."""


class Undertaker:
    """Settles what lies in the parked queue."""

    def __init__(self, outbox: Outbox, poisons: PoisonStore, store: StatusStore) -> None:
        self._outbox = outbox
        self._store = store
        self._poisons = poisons

    async def settle(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once something durable was said of each; nothing is left over."""
        for delivery in deliveries:
            try:
                event = decode_event(delivery.body)
            except MalformedEvent as error:
                await self._keep(delivery, str(error))
                continue
            if isinstance(event, COMMANDS):
                if (said := await self._said_of(event, delivery)) is not None:
                    await self._outbox.deliver(said)
            else:
                await self._keep(delivery, f"{event.fact} is no command")
        return []

    async def _said_of(self, command: JobEvent, delivery: Delivery) -> JobEvent | None:
        job, died = command.job, _death(delivery.headers)
        if died.reason == "rejected" and not job.redelivered:
            return _given_up(command, died, f"no processor of the queue {job.queue} knows its type")
        match await until_stored(lambda: self._store.standing(job)):
            case Standing.OVER:
                log.info("job_is_over", job_id=job.id)
                return None
            case Standing.HELD:
                # Its holder ends it, or falls silent: it comes back here then, for it stays delivered too often.
                log.info("job_is_held", job_id=job.id)
                later = {"run_at": died.at + LOOK_AGAIN, "redelivered": MOST_DELIVERIES}
                return _followed_by(JobPostponed, command, died.at, **later)
            case Standing.STARTED if job.quarantined:
                why = "it was delivered too often, in quarantine too: its worker died each time"
                return _given_up(command, died, why, **await self._attempts_of(job))
        log.warning("job_quarantined", job_id=job.id)
        metrics.quarantined.inc()
        told = {"quarantined": job.turn + MOST_DELIVERIES, **await self._attempts_of(job)}
        return _followed_by(JobQuarantined, command, died.at, **told)

    async def _attempts_of(self, job: Job) -> dict[str, Any]:
        """Return what there is to know of the attempts of this run; a message knows of none that died.

        The claim knows of each; where it is forgotten, the view knows of those that lasted long enough to be told.
        """
        attempts = await until_stored(lambda: self._store.claimed(job))
        for known in await until_stored(lambda: self._store.known([job.id])):
            if known.job.run == job.run and len(known.job.attempts) > len(attempts):
                attempts = known.job.attempts
        if not attempts or attempts[-1].number <= job.attempt:
            return {}
        ended = [one.settled for one in attempts]
        return {"attempt": ended[-1].number, "attempts": tuple(ended), "started_at": ended[-1].started_at}

    async def _keep(self, delivery: Delivery, reason: str) -> None:
        queue = _death(delivery.headers).queue
        metrics.poison.inc()
        log.warning("poison_kept", queue=queue, reason=reason)
        await self._outbox.keep_poison(delivery.body, queue=queue, reason=reason)
        await until_stored(
            lambda: self._poisons.record_poison(delivery.body, queue=queue, reason=reason, at=now()),
        )


class _Death:
    """What the broker says of how a message died (RabbitMQ's `x-death`)."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.reason = str(entry.get("reason", "unknown"))
        self.queue = str(entry.get("queue", "unknown"))
        at = entry.get("time")
        #: The broker's own time where it says one: the same for everybody who looks at the message.
        self.at = at.astimezone(UTC) if isinstance(at, datetime) else now()


def _death(headers: Mapping[str, Any]) -> _Death:
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    # What the tracker parks by hand has no death of the broker's.
    return _Death({"queue": headers.get("x-first-queue", "unknown"), **latest})


def _given_up(command: JobEvent, died: _Death, why: str, **told: Any) -> JobEvent:
    log.warning("job_given_up", job_id=command.job.id, reason=why)
    metrics.given_up.inc()
    error = JobError(kind=GIVEN_UP, message=f"the broker gave the job up: {why}")
    return _followed_by(JobFailed, command, died.at, error=error, finished_at=died.at, **told)


def _followed_by(kind: type[JobEvent], command: JobEvent, at: datetime, **changes: Any) -> JobEvent:
    """Build what follows on a command: its turn is beyond every delivery that the command had."""
    turn = {
        "turn": command.job.turn + MOST_DELIVERIES,
        "execution": "0" * 8,
        "step": 0,
        "worker": None,
        "redelivered": 0,
    }
    event = kind(job=command.job.model_copy(update=turn | changes), time=at, traceparent=command.traceparent)
    return event.model_copy(update={"event_id": uuid5(NAMESPACE_URL, f"{event.source}/{event.sequence}").hex})
