"""Forgetting a job that has ended, before its retention time is over."""

from dataclasses import dataclass

from milepost_contracts.events import Forgotten, JobForgotten
from milepost_gateway.errors import JobNotFinished
from milepost_gateway.ports import Broker
from milepost_gateway.status import Statuses


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """Forgets jobs for one deployment."""

    statuses: Statuses
    broker: Broker

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
