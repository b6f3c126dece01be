"""Many jobs in one request, each accepted or refused separately; and their progress, at a constant cost.

A batch is not stored: its jobs carry its id, and the view has an index of them. The id is signed, as a job's is, and
contains the number of jobs.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from milepost_contracts.clock import now
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.http.problems import ProblemDetail
from milepost_contracts.ids import Keyring
from milepost_contracts.states import Status
from milepost_gateway.core.idempotency import IdempotencyClaim
from milepost_gateway.core.submission import CHECK_TIMEOUT, Acceptance, CheckedSubmission, Submission
from milepost_gateway.errors import BatchUnknown, GatewayError, InvalidSubmission, JobExpired, UnknownJobType
from milepost_gateway.ports.job_index import JobIndex

MAX_BATCH_JOBS = 1_000
MAX_CALLBACK_HOSTS = 10
"""Maximum number of hosts in the callback URLs of a batch: each is resolved before the answer."""
MAX_CONCURRENT_SUBMISSIONS = 100
"""Jobs of a batch that are submitted concurrently."""
_SIZE_DIGITS = 3
"""Hex digits at the end of a batch's id, with its number of jobs."""


@dataclass(frozen=True, kw_only=True)
class BatchOutcomes:
    """The outcomes of a batch's jobs, in their order."""

    batch_id: str | None
    """Nothing if no job was valid."""
    outcomes: deque[str | GatewayError]
    """The id of each accepted job, or why it was not accepted."""


@dataclass(frozen=True, kw_only=True)
class _BatchState:
    """The progress of a batch. Once a job has ended, it counts as ended, unless it is retried."""

    created_at: datetime
    size: int
    counts: dict[Status, int]
    #: Jobs whose documents have expired: they have ended.
    expired: int

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return self.expired + sum(count for status, count in self.counts.items() if status.terminal)

    @property
    def unseen(self) -> int:
        """How many jobs no tracker has seen."""
        return max(0, self.size - self.expired - sum(self.counts.values()))


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of one deployment."""

    keyring: Keyring
    acceptance: Acceptance
    index: JobIndex
    retention: timedelta

    async def submit(
        self, jobs: list[Any], *, tenant: str, traceparent: str | None, claim: IdempotencyClaim | None = None
    ) -> BatchOutcomes:
        """Submit the valid jobs, and return the outcome of each job.

        With the claim of an Idempotency-Key, a repeat submits the same jobs again, with the same ids. The list is
        emptied job by job: to free large jobs all at once would hold the event loop.

        Raises:
            TooManyRequests, TooManyJobs: The tenant may not submit so many now.
        """
        outcomes: list[str | GatewayError] = []
        valid: dict[int, CheckedSubmission] = {}
        unknown: dict[str, UnknownJobType] = {}
        hosts: set[str] = set()
        await self._resolve_hosts(jobs)
        until = asyncio.get_running_loop().time() + CHECK_TIMEOUT
        jobs.reverse()
        try:
            for number in range(len(jobs)):
                await asyncio.sleep(0)  # let other requests run
                try:
                    valid[number] = await self._check(jobs.pop(), unknown, hosts, tenant=tenant, until=until)
                except GatewayError as error:
                    outcomes.append(_located(error, number).with_traceback(None))
                else:
                    outcomes.append(GatewayError())
            if not valid:
                return BatchOutcomes(batch_id=None, outcomes=deque(outcomes))
            if claim is None or not claim.repeated:
                await self.acceptance.quotas.acquire(tenant, len(valid))
            batch_id = self._issue(tenant, len(valid), claim)
            slots = asyncio.Semaphore(MAX_CONCURRENT_SUBMISSIONS)

            async def accept(number: int) -> None:
                try:
                    submitted = await self.acceptance.submit(
                        valid.pop(number),
                        tenant=tenant,
                        batch=batch_id,
                        traceparent=traceparent,
                        job_id=None if claim is None else claim.nth(tenant, number),
                    )
                    outcomes[number] = submitted.job.id
                except GatewayError as error:
                    outcomes[number] = error
                finally:
                    slots.release()

            tasks = []
            for number in list(valid):
                await slots.acquire()
                tasks.append(asyncio.create_task(accept(number)))
                await asyncio.sleep(0)  # each encodes its job: let other requests run
            await asyncio.gather(*tasks)
            return BatchOutcomes(batch_id=batch_id, outcomes=deque(outcomes))
        finally:
            while valid:
                valid.popitem()
                await asyncio.sleep(0)

    async def _resolve_hosts(self, jobs: Sequence[Any]) -> None:
        """Resolve the hosts of the jobs' callback URLs concurrently: the check of each job uses the outcomes."""
        callback_urls = self.acceptance.callback_urls
        urls = [job.get("callback_url") for job in jobs if isinstance(job, dict)]
        by_host = {callback_urls.host(url): url for url in urls if isinstance(url, str)}
        urls_by_host = list(by_host.values())[:MAX_CALLBACK_HOSTS]
        await asyncio.gather(*(callback_urls.check(url) for url in urls_by_host), return_exceptions=True)

    async def _check(
        self, job: Any, unknown: dict[str, UnknownJobType], hosts: set[str], *, tenant: str, until: float
    ) -> CheckedSubmission:
        submission = Submission.read(job)
        if submission.callback_url is not None:
            hosts.add(self.acceptance.callback_urls.host(submission.callback_url))
            if len(hosts) > MAX_CALLBACK_HOSTS:
                detail = f"the callback URLs of a batch may have at most {MAX_CALLBACK_HOSTS} hosts"
                raise InvalidSubmission([ProblemDetail(pointer="/callback_url", detail=detail)])
        if submission.type in unknown:
            raise unknown[submission.type]
        try:
            return await self.acceptance.check(submission, tenant=tenant, until=until)
        except UnknownJobType as error:
            unknown[submission.type] = error
            raise

    def _issue(self, tenant: str, size: int, claim: IdempotencyClaim | None) -> str:
        """Return the id of a batch; a repeat gets that of the first request, although more jobs may be valid now."""
        if claim is not None and claim.note:
            return claim.note
        owner = _owner(tenant, size)
        batch_id = self.keyring.issue(owner) if claim is None else claim.derive(owner, "")
        batch_id = f"{batch_id}{size:0{_SIZE_DIGITS}x}"
        if claim is not None:
            claim.note = batch_id
        return batch_id

    async def state(self, batch_id: str, *, tenant: str) -> _BatchState:
        """Return the progress of a batch.

        Raises:
            BatchUnknown: The id was never issued to this tenant.
            JobExpired: All its jobs have expired.
            StoreUnavailable: It can't be read now.
        """
        created_at, size = self.verify(batch_id, tenant=tenant)
        counts = dict(await self.index.counts(tenant=tenant, batch=batch_id))
        seen, expired = sum(counts.values()), 0
        if now() - created_at > self.retention:  # before that, no job can have expired
            if not seen:
                raise JobExpired
            expired = max(0, size - seen)
        return _BatchState(created_at=created_at, size=size, counts=counts, expired=expired)

    def verify(self, batch_id: str, *, tenant: str) -> tuple[datetime, int]:
        """Return when a batch was submitted, and its number of jobs.

        Raises:
            BatchUnknown: The id was never issued to this tenant.
        """
        try:
            size = int(batch_id[-_SIZE_DIGITS:], 16)
            issued = self.keyring.verify(batch_id[:-_SIZE_DIGITS], _owner(tenant, size))
        except (UnknownJobId, ValueError):
            raise BatchUnknown from None
        if f"{size:0{_SIZE_DIGITS}x}" != batch_id[-_SIZE_DIGITS:]:
            raise BatchUnknown
        return issued.created_at, size


def _owner(tenant: str, size: int) -> str:
    """Return the owner for which a batch's id is issued. Tenants' names have no spaces, so that it is no job's id."""
    return f"batch of {size} {tenant}"


def _located(error: GatewayError, number: int) -> GatewayError:
    if isinstance(error, InvalidSubmission):
        places = [ProblemDetail(pointer=f"/jobs/{number}{one.pointer}", detail=one.detail) for one in error.errors]
        return type(error)(places)
    return error
