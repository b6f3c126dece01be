"""Running a job again that has ended: a new run of the same job, handed over like a submission."""

from dataclasses import dataclass
from datetime import timedelta

from milepost_contracts.envelope import now
from milepost_contracts.values import MAX_RUN, Job
from milepost_gateway.errors import JobNotFinished, RunsExhausted
from milepost_gateway.ports import Broker
from milepost_gateway.status import Statuses
from milepost_gateway.submission import submitted

_KEPT = (
    "id",
    "tenant",
    "type",
    "queue",
    "tags",
    "batch",
    "params",
    "files",
    "callback_url",
    "created_at",
    "start_within",
    "max_runtime",
)


@dataclass(frozen=True, kw_only=True)
class Reruns:
    """Hands jobs over again, for one deployment."""

    statuses: Statuses
    broker: Broker

    async def run_again(self, job_id: str, *, tenant: str) -> Job:
        """Hand a job over again that has ended, and return its next run.

        Raises:
            JobUnknown, JobExpired: There is no such job, or nothing is kept of it.
            JobNotFinished: It has not ended yet.
            NotAccepted, OutcomeUnknown: It is not accepted, or nobody can say; doing it again is harmless.
            StoreUnavailable: What became of it can't be read now.
        """
        _, snapshot = await self.statuses.known(job_id, tenant=tenant)
        if not snapshot.status.terminal:
            raise JobNotFinished(snapshot.status)
        return await self.next_run(snapshot.job)

    async def next_run(self, job: Job, *, after: timedelta = timedelta(0)) -> Job:
        """Hand a job over as its next run, whatever became of this one, and return that.

        Raises:
            NotAccepted, OutcomeUnknown: It is not accepted, or nobody can say; doing it again is harmless.
        """
        if job.run >= MAX_RUN:
            raise RunsExhausted
        at = now()
        again = Job(**{name: getattr(job, name) for name in _KEPT}, run=job.run + 1, run_at=at + after)
        await self.broker.submit(submitted(again, at=at))
        return again
