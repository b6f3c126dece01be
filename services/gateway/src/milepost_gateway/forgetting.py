"""Forgetting a job that has ended, before its retention time is over."""

from dataclasses import dataclass

from milepost_contracts.events import Forgotten, JobForgotten
from milepost_gateway.errors import BlobsUnavailable, JobNotFinished
from milepost_gateway.ports import Blobs, Broker
from milepost_gateway.status import Statuses


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """Forgets jobs for one deployment."""

    statuses: Statuses
    broker: Broker
    blobs: Blobs

    async def forget(self, job_id: str, *, tenant: str, traceparent: str | None) -> None:
        """Return once it is a durable fact that the job is forgotten; a run that is accepted meanwhile is not.

        Raises:
            JobUnknown, JobExpired: There is no such job, or nothing is kept of it.
            JobNotFinished: It has not ended yet.
            NotAccepted, OutcomeUnknown: It is not forgotten, or nobody can say; doing it again is harmless.
            StoreUnavailable: What became of it can't be read now.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        if not snapshot.status.terminal:
            raise JobNotFinished(snapshot.status)
        job = snapshot.job
        told = Forgotten(job_id=job.id, tenant=job.tenant, type=job.type, queue=job.queue, run=job.run)
        await self.broker.say(JobForgotten(forgotten=told, traceparent=traceparent))
        await self._remove_files(job_id)

    async def _remove_files(self, job_id: str) -> None:
        """What is not removed now is removed with the leftovers."""
        try:
            await self.blobs.remove([key async for key in self.blobs.keys(f"jobs/{job_id}")])
        except BlobsUnavailable:
            return
