"""Many jobs in one request, each accepted or refused by itself; and how far all of them are, at a constant cost.

A batch is no thing of its own: its jobs carry its id, and the view has an index of them. The id certifies itself, as a
job's does, and how many jobs there are.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from milepost_contracts.envelope import now
from milepost_contracts.errors import UnknownJobId
from milepost_contracts.ids import Keyring
from milepost_contracts.problems import ProblemDetail
from milepost_contracts.states import Status
from milepost_gateway.catalogue import KnownType
from milepost_gateway.errors import BatchUnknown, GatewayError, InvalidSubmission, JobExpired, UnknownJobType
from milepost_gateway.idempotency import Turn
from milepost_gateway.ports import StatusStore, Submitted
from milepost_gateway.submission import Acceptance, Submission

MOST_JOBS = 1_000
MOST_HOSTS = 10
"""Each has to be found before the answer, and a name server may take its time."""
AT_ONCE = 100
"""So many are on their way to the broker at a time."""
_AT_A_STRETCH = 20
"""So many are looked at before others get their turn."""
_SIZE = 3
"""Hex digits at the end of a batch's id: how many jobs it has."""


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    """What became of a batch's jobs, in their order."""

    #: Nothing if not one of them was fit to be handed over.
    batch_id: str | None
    outcomes: Sequence[Submitted | GatewayError]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a batch is."""

    created_at: datetime
    size: int
    counts: dict[Status, int]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of one deployment."""

    keyring: Keyring
    acceptance: Acceptance
    store: StatusStore
    retention: timedelta

    async def hand_over(
        self, jobs: Sequence[Any], *, tenant: str, traceparent: str | None, turn: Turn | None = None
    ) -> HandedOver:
        """Return once every job that fits is a durable fact, or why it is not.

        With the turn of an Idempotency-Key a repeat hands the same jobs over again, under the same ids.

        Raises:
            TooManyRequests, TooManyJobs: The tenant may not hand over so many now.
        """
        outcomes: list[Submitted | GatewayError] = []
        fit: dict[int, tuple[Submission, KnownType]] = {}
        unknown: dict[str, UnknownJobType] = {}
        hosts: set[str] = set()
        await self._find_hosts(jobs)
        for number, job in enumerate(jobs):
            if number % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)
            try:
                fit[number] = await self._check(job, unknown, hosts)
            except GatewayError as error:
                outcomes.append(_within(error, number))
            else:
                outcomes.append(GatewayError())
        if not fit:
            return HandedOver(batch_id=None, outcomes=outcomes)
        if turn is None or not turn.repeated:
            await self.acceptance.admission.admit(tenant, len(fit))
        batch_id = self._issue(tenant, len(fit), turn)
        room = asyncio.Semaphore(AT_ONCE)

        async def accept(number: int) -> None:
            submission, known = fit[number]
            async with room:
                try:
                    outcomes[number] = await self.acceptance.hand_over(
                        submission,
                        known,
                        tenant=tenant,
                        batch=batch_id,
                        traceparent=traceparent,
                        job_id=None if turn is None else turn.nth(tenant, number),
                    )
                except GatewayError as error:
                    outcomes[number] = error

        await asyncio.gather(*(accept(number) for number in fit))
        return HandedOver(batch_id=batch_id, outcomes=outcomes)

    async def _find_hosts(self, jobs: Sequence[Any]) -> None:
        """Look for the hosts that the jobs call back, all at once: what was found out is known when each is checked."""
        callbacks = self.acceptance.callbacks
        urls = [job.get("callback_url") for job in jobs if isinstance(job, dict)]
        by_host = {callbacks.host(url): url for url in urls if isinstance(url, str)}
        some = list(by_host.values())[:MOST_HOSTS]
        await asyncio.gather(*(callbacks.check(url) for url in some), return_exceptions=True)

    async def _check(
        self, job: Any, unknown: dict[str, UnknownJobType], hosts: set[str]
    ) -> tuple[Submission, KnownType]:
        submission = Submission.read(job)
        if submission.callback_url is not None:
            hosts.add(self.acceptance.callbacks.host(submission.callback_url))
            if len(hosts) > MOST_HOSTS:
                detail = f"the jobs of one batch call back at most {MOST_HOSTS} hosts"
                raise InvalidSubmission([ProblemDetail(pointer="/callback_url", detail=detail)])
        if submission.type in unknown:
            raise unknown[submission.type]
        try:
            return submission, await self.acceptance.check(submission)
        except UnknownJobType as error:
            unknown[submission.type] = error
            raise

    def _issue(self, tenant: str, size: int, turn: Turn | None) -> str:
        """Return the id of a batch; a repeat has that of the first request, though more jobs may fit by now."""
        if turn is not None and turn.note:
            return turn.note
        whose = _whose(tenant, size)
        batch_id = self.keyring.issue(whose) if turn is None else turn.derive(whose, "")
        batch_id = f"{batch_id}{size:0{_SIZE}x}"
        if turn is not None:
            turn.note = batch_id
        return batch_id

    async def standing(self, batch_id: str, *, tenant: str) -> Standing:
        """Return how far a batch is.

        Raises:
            BatchUnknown: The id was never issued to this tenant.
            JobExpired: Nothing is kept of its jobs any more.
            StoreUnavailable: It can't be read now.
        """
        created_at, size = self.verify(batch_id, tenant=tenant)
        counts = dict(await self.store.counts(tenant=tenant, batch=batch_id))
        if not any(counts.values()) and now() - created_at > self.retention:
            raise JobExpired
        return Standing(created_at=created_at, size=size, counts=counts)

    def verify(self, batch_id: str, *, tenant: str) -> tuple[datetime, int]:
        """Return when a batch was issued, and how many jobs it has.

        Raises:
            BatchUnknown: The id was never issued to this tenant.
        """
        try:
            size = int(batch_id[-_SIZE:], 16)
            issued = self.keyring.verify(batch_id[:-_SIZE], _whose(tenant, size))
        except (UnknownJobId, ValueError):
            raise BatchUnknown from None
        if f"{size:0{_SIZE}x}" != batch_id[-_SIZE:]:
            raise BatchUnknown
        return issued.created_at, size


def _whose(tenant: str, size: int) -> str:
    """Name whose id it is; no tenant has spaces in its name, so that it is no job's."""
    return f"batch of {size} {tenant}"


def _within(error: GatewayError, number: int) -> GatewayError:
    if isinstance(error, InvalidSubmission):
        places = [ProblemDetail(pointer=f"/jobs/{number}{one.pointer}", detail=one.detail) for one in error.errors]
        return type(error)(places)
    return error
