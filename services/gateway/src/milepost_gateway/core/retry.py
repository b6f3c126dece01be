"""Retrying a job that has ended: a new run of the same job, published like a submission."""

from dataclasses import dataclass
from datetime import timedelta

from milepost_contracts.clock import now
from milepost_contracts.grants import granted
from milepost_contracts.ids import Keyring
from milepost_contracts.values import MAX_RUN, Job
from milepost_gateway.core.quotas import Quotas
from milepost_gateway.core.status import Statuses
from milepost_gateway.core.submission import submitted
from milepost_gateway.errors import JobNotFinished, RunsExhausted
from milepost_gateway.ports.broker import Broker

_KEPT = (
    "id",
    "tenant",
    "type",
    "queue",
    "tags",
    "batch",
    "params",
    "sealed",
    "files",
    "callback_url",
    "created_at",
    "start_within",
    "max_runtime",
)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Retries jobs, for one deployment."""

    statuses: Statuses
    broker: Broker
    quotas: Quotas
    keyring: Keyring

    async def retry(self, job_id: str, *, tenant: str) -> Job:
        """Submit the next run of a job that has ended, and return it.

        Raises:
            JobUnknown, JobExpired: There is no such job, or it has expired.
            JobNotFinished: It has not ended yet.
            TooManyRequests, TooManyJobs: The tenant may not submit one more job now.
            NotAccepted, OutcomeUnknown: The run was not accepted, or that can't be known; repeating is harmless.
            StoreUnavailable: Its status can't be read now.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        if not snapshot.status.terminal:
            raise JobNotFinished(snapshot.status)
        await self.quotas.acquire(tenant)
        return await self.next_run(snapshot.job)

    async def next_run(self, job: Job, *, after: timedelta = timedelta(0)) -> Job:
        """Submit the next run of a job, whatever its status, and return it.

        Raises:
            RunsExhausted: The job has no runs left.
            NotAccepted, OutcomeUnknown: The run was not accepted, or that can't be known; repeating is harmless.
        """
        if job.run >= MAX_RUN:
            raise RunsExhausted
        at = now()
        next_run = Job(**{name: getattr(job, name) for name in _KEPT}, run=job.run + 1, run_at=at + after)
        again = granted(next_run, self.keyring)
        await self.broker.submit(submitted(again, at=at))
        return again
