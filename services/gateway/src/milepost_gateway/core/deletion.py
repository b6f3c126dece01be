"""Deleting a job that has ended, before its retention is over."""

from dataclasses import dataclass

from milepost_contracts.messages.job_events import DeletionRequest, JobDeleted
from milepost_gateway.core.status import Statuses
from milepost_gateway.errors import JobNotFinished
from milepost_gateway.ports.broker import Broker


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Deletes jobs, for one deployment."""

    statuses: Statuses
    broker: Broker

    async def delete(self, job_id: str, *, tenant: str, traceparent: str | None) -> None:
        """Return once the deletion is durable; a run that is accepted meanwhile is not deleted.

        Raises:
            JobUnknown, JobExpired: There is no such job, or it has expired.
            JobNotFinished: It has not ended yet.
            NotAccepted, OutcomeUnknown: It is not deleted, or that can't be known; repeating is harmless.
            StoreUnavailable: Its status can't be read now.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        if not snapshot.status.terminal:
            raise JobNotFinished(snapshot.status)
        job = snapshot.job
        request = DeletionRequest(job_id=job.id, tenant=job.tenant, type=job.type, queue=job.queue, run=job.run)
        await self.broker.publish_request(JobDeleted(request=request, traceparent=traceparent))
