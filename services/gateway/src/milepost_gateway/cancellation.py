"""Asking that a job be canceled: a request, durable like a submission. That it took effect, the job's own end says."""

from dataclasses import dataclass

from milepost_contracts.envelope import now
from milepost_contracts.events import CancelRequest, CancelRequested
from milepost_gateway.errors import JobAlreadyFinished, NotKnownYet
from milepost_gateway.following import Following
from milepost_gateway.ports import Broker, Snapshot, Stored
from milepost_gateway.status import Statuses


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """Takes requests to cancel, for one deployment."""

    statuses: Statuses
    following: Following
    broker: Broker

    async def request(
        self, job_id: str, *, tenant: str, traceparent: str | None
    ) -> tuple[Stored, CancelRequest | None]:
        """Return the job's document as it was, and the request if it is a new one.

        Raises:
            JobUnknown, JobExpired: There is nothing to cancel.
            JobAlreadyFinished: It has ended.
            NotAccepted, OutcomeUnknown: The request is not stored, or nobody can say; asking again is harmless.
            StoreUnavailable: What the job is can't be read now, or no tracker has seen it.
        """
        stored, snapshot = await self._known(job_id, tenant)
        if stored.cancel_requested and not stored.terminal:
            return stored, None
        if snapshot.status.terminal:
            raise JobAlreadyFinished(snapshot.status)
        job = snapshot.job
        request = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, run=job.run, requested_at=now())
        await self.broker.say(CancelRequested(request=request, traceparent=traceparent))
        return stored, request

    async def _known(self, job_id: str, tenant: str) -> tuple[Stored, Snapshot]:
        """Return what there is to cancel; who hands a job over may do so at once, before a tracker has seen it."""
        try:
            return await self.statuses.known(job_id, tenant=tenant)
        except NotKnownYet:
            await self.following.document(job_id, tenant=tenant, enough=_is_seen, within=self.following.seen_within)
            return await self.statuses.known(job_id, tenant=tenant)


def _is_seen(stored: Stored) -> bool:
    return stored.version > 0
