"""What the tracker itself publishes: verdicts, webhooks on their way, and what nobody could read."""

from datetime import timedelta

from milepost_contracts import webhooks
from milepost_contracts.events import JobEvent, encode_event
from milepost_contracts.topology import Topology
from milepost_rabbit.publisher import RabbitPublisher


class RabbitOutbox:
    """See `ports.Outbox`."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._topology = topology
        self._publisher = RabbitPublisher(url, name="tracker verdicts")
        self.link = self._publisher.link

    async def deliver(self, event: JobEvent) -> None:
        await self._publisher.publish_until_confirmed(
            self._topology.jobs, event.routing_key, encode_event(event), correlation_id=event.job.id
        )

    async def retell(self, event: JobEvent) -> None:
        await self._publisher.publish_until_confirmed(
            self._topology.retold, "", encode_event(event), correlation_id=event.job.id
        )

    async def tell(
        self, event: JobEvent, *, after: timedelta = timedelta(0), tries: int = 0, asked: bool = False, put_off: int = 0
    ) -> None:
        headers = {webhooks.TRIES: str(tries), webhooks.PUT_OFF: str(put_off)}
        if asked:
            headers[webhooks.ASKED] = "yes"
        await self._publisher.publish_until_confirmed(
            self._topology.webhooks,
            webhooks.routing_key(event.job, after=after),
            encode_event(event),
            correlation_id=event.job.id,
            headers=headers,
        )

    async def keep_poison(self, body: bytes, *, queue: str, reason: str) -> None:
        headers = {"x-first-queue": queue, "x-reason": reason[:500]}
        await self._publisher.publish_until_confirmed(
            self._topology.poison, "", body, correlation_id="poison", headers=headers
        )
