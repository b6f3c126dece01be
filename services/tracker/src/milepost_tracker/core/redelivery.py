"""Publishes jobs again that should have left their delay and that nobody has.

RabbitMQ may hold back what it dead-letters: if its dead-letter supervisor ends at the start of a node
(rabbitmq/rabbitmq-server issue 16652), messages whose delay is over reach no queue until that node starts again, and no
client can read them. If the held message comes after all, its claim shows that it is a duplicate.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import encode_event
from milepost_contracts.states import Status
from milepost_contracts.status import deadlines
from milepost_tracker import metrics
from milepost_tracker.ports.job_counts import JobCounts
from milepost_tracker.ports.message_router import Message, MessageRouter
from milepost_tracker.ports.queue_counts import QueueCounts
from milepost_tracker.ports.republish_store import RepublishStore
from milepost_tracker.ports.status_store import KnownJob, StatusStore

log = structlog.get_logger(__name__)

OVERDUE_AFTER = timedelta(seconds=60)
"""How long after its time a job must still wait while a processor of its queue is idle."""
AGAIN_AFTER = timedelta(minutes=10)
"""How long a job is left alone after it was published again: a processor may have put it off."""


class Redelivery:
    """Publishes to the work queues alone: the view has the event already."""

    def __init__(
        self,
        unfinished: RepublishStore,
        status: StatusStore,
        job_counts: JobCounts,
        queue_counts: QueueCounts,
        router: MessageRouter,
        *,
        shards: Sequence[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unfinished = unfinished
        self._status = status
        self._job_counts = job_counts
        self._queue_counts = queue_counts
        self._router = router
        self._shards = shards
        self._clock = clock
        self._missing = 0
        #: When jobs were published again, by id.
        self._published: dict[str, float] = {}

    async def redeliver(self, missing: int) -> int:
        """Publish overdue jobs again, if more jobs are open than held both now and at the last call; return how many.

        Args:
            missing: The difference of the reconciliation (`Reconciliation.difference`).

        Raises:
            StoreUnavailable, EventLogUnavailable: Redis or RabbitMQ can't be read now.
        """
        before, self._missing = self._missing, missing
        if min(before, missing) <= 0:
            return 0
        self._missing = 0  # the next search is not before the next but one comparison
        at = self._clock()
        self._published = {
            job: when for job, when in self._published.items() if at - when < AGAIN_AFTER.total_seconds()
        }
        idle, count = await self._idle_queues(), 0
        for shard in self._shards if idle else ():
            async for jobs in self._unfinished.unfinished_jobs(shard):
                overdue = [known for known in jobs if known.job.queue in idle and self._is_overdue(known)]
                count += await self._publish(overdue) if overdue else 0
        if count:
            log.error("jobs_redelivered", count=count, hint="If this repeats, restart the nodes of RabbitMQ.")
            metrics.redelivered.inc(count)
        return count

    async def _idle_queues(self) -> set[str]:
        """Return the empty queues with an idle processor, and none that holds a job that it has not started."""
        heartbeats = await self._job_counts.heartbeats()
        free = {queue for one in heartbeats if one.held < one.threads for queue in one.queues}
        busy = {queue for one in heartbeats if one.held > len(one.running) for queue in one.queues}
        return {queue for queue in free - busy if not (await self._queue_counts.depths([queue])).ready}

    def _is_overdue(self, known: KnownJob) -> bool:
        """Whether the job should have been started long ago, by the time at which Redis received its latest event."""
        job, event = known.job, known.latest_event()
        waited = known.status in (Status.RETRYING, Status.SCHEDULED) or (known.status is Status.QUEUED and job.attempt)
        if not waited or job.quarantined or job.id in self._published or event is None or known.due is None:
            return False
        within = deadlines.report_within(event) or timedelta(0)
        return known.due - within + deadlines.waits(event) + OVERDUE_AFTER <= now()

    async def _publish(self, overdue: Sequence[KnownJob]) -> int:
        held = await self._status.held([known.job.id for known in overdue])
        left = [known for known in overdue if known.job.id not in held]
        for known in left:
            event = known.latest_event()
            assert event is not None  # noqa: S101 - the job has not ended
            body, key = encode_event(event), event.routing_key
            message = Message(routing_key=key, body=body, subject=event.subject, headers={})
            await self._router.publish(message, to="work")
            self._published[known.job.id] = self._clock()
            log.warning("job_redelivered", job_id=known.job.id, status=known.status)
        return len(left)
