"""Requests to cancel a job, stored durably like a submission. The job's end shows whether a request took effect."""

from dataclasses import dataclass

from milepost_contracts.clock import now
from milepost_contracts.messages.job_events import CancelRequest, CancelRequested
from milepost_gateway.core.job_stream import JobStream
from milepost_gateway.core.status import Statuses
from milepost_gateway.errors import JobAlreadyFinished, NotKnownYet
from milepost_gateway.ports.broker import Broker
from milepost_gateway.ports.status_store import Snapshot, StoredDocument


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """Publishes requests to cancel, for one deployment."""

    statuses: Statuses
    job_stream: JobStream
    broker: Broker

    async def request(
        self, job_id: str, *, tenant: str, traceparent: str | None
    ) -> tuple[StoredDocument, CancelRequest | None]:
        """Return the job's document as it was, and the request if it is a new one.

        Raises:
            JobUnknown, JobExpired: There is no such job, or it has expired.
            JobAlreadyFinished: It has ended.
            NotAccepted, OutcomeUnknown: The request is not stored, or that can't be known; repeating is harmless.
            StoreUnavailable: Its status can't be read now, or no tracker has seen it.
        """
        stored, snapshot = await self._known(job_id, tenant)
        if stored.cancel_requested and not stored.terminal:
            return stored, None
        if snapshot.status.terminal:
            raise JobAlreadyFinished(snapshot.status)
        job = snapshot.job
        request = CancelRequest(job_id=job.id, type=job.type, queue=job.queue, run=job.run, requested_at=now())
        await self.broker.publish_request(CancelRequested(request=request, traceparent=traceparent))
        return stored, request

    async def _known(self, job_id: str, tenant: str) -> tuple[StoredDocument, Snapshot]:
        """Return the job; wait for a tracker to see it if it was submitted just now."""
        try:
            return await self.statuses.known(job_id, tenant=tenant)
        except NotKnownYet:
            await self.job_stream.wait_for(
                job_id, tenant=tenant, until=_is_projected, max_wait=self.job_stream.projection_timeout
            )
            return await self.statuses.known(job_id, tenant=tenant)


def _is_projected(stored: StoredDocument) -> bool:
    return stored.version > 0
