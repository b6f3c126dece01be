"""Reconciliation (law 9): accepted = ended + ready + un-acked + delayed + dead-lettered.

The view says which jobs have not ended; RabbitMQ how many messages are ready, delayed and dead-lettered; processors'
heartbeats how many deliveries they hold. A job that moves meanwhile is counted twice or not at all, so one comparison
proves little: alert when the difference is not zero for five minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from milepost_contracts.states import UNFINISHED
from milepost_tracker import metrics
from milepost_tracker.ports.job_counts import JobCounts
from milepost_tracker.ports.queue_counts import QueueCounts

OLDEST_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """One comparison."""

    #: Jobs that have not ended, by their status in the view.
    open: Mapping[str, int]
    #: Jobs that have ended, by status.
    ended: Mapping[str, int]
    #: Jobs that the broker or a processor holds: `ready`, `unacked`, `delayed`, `dead_lettered`.
    held: Mapping[str, int]
    #: The oldest jobs that have not ended.
    oldest: tuple[str, ...]

    @property
    def difference(self) -> int:
        """Open jobs that nobody holds; if negative, messages of jobs that have ended."""
        return sum(self.open.values()) - sum(self.held.values())


async def reconcile(job_counts: JobCounts, queue_counts: QueueCounts) -> Reconciliation:
    """Compare the view with what is held, and set the metrics.

    Raises:
        StoreUnavailable, EventLogUnavailable: One of them can't be read now.
    """
    held = await _held(job_counts, queue_counts)
    counted = await job_counts.by_status()
    reconciliation = Reconciliation(
        open={status: counted.get(status, 0) for status in UNFINISHED},
        ended={status: count for status, count in counted.items() if status not in UNFINISHED},
        held=held,
        oldest=await job_counts.oldest(UNFINISHED, OLDEST_SHOWN),
    )
    for status, count in reconciliation.open.items():
        metrics.open_jobs.labels(status=status).set(count)
    for where, count in reconciliation.held.items():
        metrics.held_jobs.labels(where=where).set(count)
    metrics.difference.set(reconciliation.difference)
    return reconciliation


async def _held(job_counts: JobCounts, queue_counts: QueueCounts) -> Mapping[str, int]:
    heartbeats = await job_counts.heartbeats()
    webhooks = await job_counts.waiting_webhooks()
    queues = {queue for heartbeat in heartbeats for queue in heartbeat.queues} | await job_counts.queues()
    depths = await queue_counts.depths(sorted(queues))
    return {
        "ready": depths.ready,
        "unacked": sum(heartbeat.held for heartbeat in heartbeats),
        "delayed": max(0, depths.delayed - webhooks),
        "dead_lettered": depths.dead_lettered,
    }
