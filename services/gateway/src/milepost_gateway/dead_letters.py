"""Jobs that the broker gave up: looked at, and redriven, which is a new run of the same job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from milepost_contracts.document import GIVEN_UP
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import Keyring
from milepost_contracts.states import Status
from milepost_contracts.values import Job
from milepost_gateway.errors import JobUnknown, NotAccepted, NotADeadLetter, OutcomeUnknown
from milepost_gateway.ports import Place, Snapshot, StatusStore
from milepost_gateway.reruns import Reruns

PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which dead letters are meant."""

    type_name: str | None = None
    queue: str | None = None
    #: Given up before this time.
    before: datetime | None = None

    def takes(self, job: Job) -> bool:
        """Whether the job is meant."""
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
    reruns: Reruns

    async def find(self, wanted: Filter, *, tenant: str, limit: int) -> Sequence[Job]:
        """Return up to `limit` jobs of a tenant that were given up, newest first."""
        found: list[Job] = []
        before: Place | None = None
        while len(found) < limit:
            page = await self.store.dead_letters(tenant=tenant, before=before, limit=PAGE)
            found += [one.job for _, one in page if one is not None and _given_up(one) and wanted.takes(one.job)]
            if len(page) < PAGE:
                break
            before = page[-1][0]
        return found[:limit]

    async def unreadable(self, limit: int) -> Sequence[bytes]:
        """Return what there is to tell of messages that nobody could read, newest first."""
        return await self.store.poison(limit)

    async def get(self, job_id: str, *, tenant: str) -> Job:
        """Return one job that was given up.

        Raises:
            JobUnknown: There is no such job.
            NotADeadLetter: It was not given up, or was redriven since.
        """
        try:
            self.keyring.verify(job_id, tenant)
        except UnknownJobId as error:
            raise JobUnknown from error
        await self.store.get(job_id)  # raises while the view is not whole: the job may have been redriven already
        snapshot = await self.store.snapshot(job_id)
        if snapshot is None or not _given_up(snapshot):
            raise NotADeadLetter
        return snapshot.job

    async def redrive(self, job: Job, *, after: timedelta = timedelta(0)) -> Job:
        """Hand the job over again, as its next run, and return it.

        Raises:
            NotAccepted, OutcomeUnknown: It is not accepted, or nobody can say; doing it again is harmless.
        """
        return await self.reruns.next_run(job, after=after)

    async def redrive_all(self, jobs: Sequence[Job], *, rate: float | None) -> Sequence[Job]:
        """Hand them over again, oldest first and at most so many a second: the broker holds back the later ones.

        Return those that were; fewer, if the broker stopped taking them.

        Raises:
            NotAccepted, OutcomeUnknown: Not even the first one was accepted, for certain.
        """
        pause = timedelta(seconds=1 / rate) if rate else timedelta(0)
        done: list[Job] = []
        for number, job in enumerate(sorted(jobs, key=lambda job: job.id)):
            try:
                done.append(await self.redrive(job, after=number * pause))
            except (NotAccepted, OutcomeUnknown):
                if not done:
                    raise
                break
        return done


def _given_up(snapshot: Snapshot) -> bool:
    error = snapshot.job.error
    return snapshot.status is Status.FAILED and error is not None and error.kind == GIVEN_UP
