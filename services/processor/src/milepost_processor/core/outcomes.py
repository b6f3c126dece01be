"""Records how attempts have ended, publishes that, and records the confirms: one end of a run stands (ADR 31)."""

from collections import deque
from contextlib import suppress

import structlog

from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.values import Job, JobError, clipped
from milepost_processor import metrics
from milepost_processor.errors import ClaimsUnavailable
from milepost_processor.ports.claims import Claims
from milepost_processor.ports.event_publisher import EventPublisher

log = structlog.get_logger(__name__)

MAX_ERROR_LOGGED = 300


def _logged(error: JobError | None) -> dict[str, str]:
    return {} if error is None else {"error": f"{error.kind}: {clipped(error.message, MAX_ERROR_LOGGED)}"}


class Outcomes:
    """The outcomes of a processor's executions, from any thread."""

    def __init__(self, claims: Claims, publisher: EventPublisher) -> None:
        self._claims = claims
        self._publisher = publisher
        self._confirmed: deque[JobEvent] = deque()

    def conclude(self, job: Job, outcome: JobEvent) -> JobEvent | None:
        """Record the outcome of an execution, and return the one that was published, once it is confirmed.

        That is the outcome of another execution if it was recorded first and may not be stored; `None` if nothing was
        published, because another end or a later attempt stands. While claims are unavailable, the outcome is published
        without being recorded.

        Raises:
            Stopping: The process stops before the confirm.
        """
        try:
            standing = self._claims.end(job, outcome)
        except ClaimsUnavailable as error:
            log.warning("outcome_not_recorded", error=str(error))
            standing = outcome
        if standing is None:
            log.info("outcome_dropped", type=job.type, status=str(outcome.status))
            return None
        self.publish(standing)
        log.info(
            "job_concluded",
            type=job.type,
            outcome=standing.fact,
            attempt=standing.job.attempt,
            **_logged(standing.job.error),
        )
        counter = metrics.finished if standing.status.terminal else metrics.put_back
        counter.labels(type=job.type, status=str(standing.status)).inc()
        return standing

    def publish(self, outcome: JobEvent) -> None:
        """Publish a recorded outcome; return once it is confirmed.

        Raises:
            Stopping: The process stops before the confirm.
        """
        self._publisher.publish(outcome)
        self._confirmed.append(outcome)

    def record_confirmed(self) -> None:
        """Record in their claims that outcomes were confirmed, all since the last call in one batch."""
        outcomes = [self._confirmed.popleft() for _ in range(len(self._confirmed))]
        if outcomes:
            with suppress(ClaimsUnavailable):  # a redelivery would publish them again, which changes nothing
                self._claims.confirm(outcomes)
