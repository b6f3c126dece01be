"""Publishes the tracker's own events, webhooks, and unreadable messages."""

from datetime import timedelta

from milepost_contracts.http import webhooks
from milepost_contracts.messages.job_events import JobEvent, encode_event
from milepost_contracts.messages.topology import Topology
from milepost_rabbit.publisher import RabbitPublisher
from milepost_tracker.ports.event_publisher import MAX_REASON, REASON_HEADER


class RabbitEventPublisher:
    """Implements `ports.event_publisher.EventPublisher`."""

    def __init__(self, publisher: RabbitPublisher, topology: Topology) -> None:
        self._publisher = publisher
        self._topology = topology

    async def publish(self, event: JobEvent) -> None:
        await self._publisher.publish_until_confirmed(
            self._topology.jobs, event.routing_key, encode_event(event), correlation_id=event.job.id
        )

    async def republish(self, event: JobEvent) -> None:
        await self._publisher.publish_until_confirmed(
            self._topology.republished, "", encode_event(event), correlation_id=event.job.id
        )

    async def publish_webhook(
        self, event: JobEvent, *, after: timedelta = timedelta(0), tries: int = 0, asked: bool = False, put_off: int = 0
    ) -> None:
        headers = {webhooks.TRIES_HEADER: str(tries), webhooks.PUT_OFF_HEADER: str(put_off)}
        if asked:
            headers[webhooks.ASKED_HEADER] = "yes"
        await self._publisher.publish_until_confirmed(
            self._topology.webhooks,
            webhooks.routing_key(event.job, after=after),
            encode_event(event),
            correlation_id=event.job.id,
            headers=headers,
        )

    async def publish_poison(self, body: bytes, *, queue: str, reason: str) -> None:
        headers = {"x-first-queue": queue, REASON_HEADER: reason[:MAX_REASON]}
        await self._publisher.publish_until_confirmed(
            self._topology.poison, "", body, correlation_id="poison", headers=headers
        )
