"""Jobs that the broker dead-lettered: listing them, and their redrive, which is a new run of the same job."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import Keyring
from milepost_contracts.states import Status
from milepost_contracts.status.document import DEAD_LETTERED
from milepost_contracts.values import Job
from milepost_gateway.core.retry import Retry
from milepost_gateway.errors import GatewayError, JobUnknown, NotAccepted, NotADeadLetter, OutcomeUnknown
from milepost_gateway.ports.job_index import JobIndex, Place
from milepost_gateway.ports.poison_store import PoisonStore
from milepost_gateway.ports.status_store import Snapshot, StatusStore

PAGE_SIZE = 200


@dataclass(frozen=True, kw_only=True)
class DeadLetterFilter:
    """Selects dead letters."""

    type_name: str | None = None
    queue: str | None = None
    #: Dead-lettered before this time.
    before: datetime | None = None

    def matches(self, job: Job) -> bool:
        """Whether the job is selected."""
        return (
            self.type_name in (None, job.type)
            and self.queue in (None, job.queue)
            and (self.before is None or job.finished_at is None or job.finished_at < self.before)
        )


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """The dead letters of one deployment."""

    keyring: Keyring
    store: StatusStore
    index: JobIndex
    poison: PoisonStore
    retry: Retry

    async def find(self, wanted: DeadLetterFilter, *, tenant: str, limit: int) -> Sequence[Job]:
        """Return up to `limit` dead-lettered jobs of a tenant, newest first."""
        found: list[Job] = []
        before: Place | None = None
        while len(found) < limit:
            places = await self.index.dead_letters(tenant=tenant, before=before, limit=PAGE_SIZE)
            snapshots = await asyncio.gather(*(self.store.snapshot(place.job_id) for place in places))
            found += [one.job for one in snapshots if one is not None and _is_dead(one) and wanted.matches(one.job)]
            if len(places) < PAGE_SIZE:
                break
            before = places[-1]
        return found[:limit]

    async def unreadable(self, limit: int) -> Sequence[bytes]:
        """Return the records of messages that could not be parsed, newest first."""
        return await self.poison.latest(limit)

    async def get(self, job_id: str, *, tenant: str) -> Job:
        """Return one dead-lettered job.

        Raises:
            JobUnknown: The id was never issued to this tenant.
            NotADeadLetter: It was not dead-lettered, or was redriven since.
            JobExpired, StoreUnavailable: It was deleted, or can't be read now.
        """
        try:
            self.keyring.verify(job_id, tenant)
        except UnknownJobId as error:
            raise JobUnknown from error
        await self.store.get(job_id)  # raises while the view is incomplete: the job may have been redriven
        snapshot = await self.store.snapshot(job_id)
        if snapshot is None or not _is_dead(snapshot):
            raise NotADeadLetter
        return snapshot.job

    async def redrive(self, job: Job, *, after: timedelta = timedelta(0)) -> Job:
        """Submit the job's next run, and return it.

        Raises:
            RunsExhausted: It has no runs left.
            NotAccepted, OutcomeUnknown: The run was not accepted, or that can't be known; repeating is harmless.
        """
        return await self.retry.next_run(job, after=after)

    async def redrive_all(self, jobs: Sequence[Job], *, rate: float | None) -> Sequence[Job]:
        """Submit the next runs, oldest job first, and return them.

        Once a job was not accepted, for example because its queue is full, the other jobs of its queue are left.
        With a rate, the broker delays the later ones: at most `rate` of them start per second.

        Raises:
            NotAccepted, OutcomeUnknown: None was accepted, or that can't be known; the error of the first one.
        """
        pause = timedelta(seconds=1 / rate) if rate else timedelta(0)
        done: list[Job] = []
        refused: dict[str, GatewayError] = {}
        for number, job in enumerate(sorted(jobs, key=lambda job: job.id)):
            if job.queue in refused:
                continue
            try:
                done.append(await self.redrive(job, after=number * pause))
            except (NotAccepted, OutcomeUnknown) as error:
                refused[job.queue] = error
        if refused and not done:
            raise next(iter(refused.values()))
        return done


def _is_dead(snapshot: Snapshot) -> bool:
    error = snapshot.job.error
    return snapshot.status is Status.FAILED and error is not None and error.kind == DEAD_LETTERED
