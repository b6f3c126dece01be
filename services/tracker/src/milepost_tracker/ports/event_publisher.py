"""What the tracker publishes."""

from datetime import timedelta
from typing import Protocol

from milepost_contracts.messages.job_events import JobEvent

REASON_HEADER = "x-reason"
"""The AMQP header of a message that was set aside: why."""
MAX_REASON = 500


class EventPublisher(Protocol):
    """Publishes until the broker confirms, however long it is away."""

    async def publish(self, event: JobEvent) -> None:
        """Return once the event is confirmed."""

    async def republish(self, event: JobEvent) -> None:
        """Return once the log has the event; nobody else receives it."""

    async def publish_webhook(
        self, event: JobEvent, *, after: timedelta = timedelta(0), tries: int = 0, asked: bool = False, put_off: int = 0
    ) -> None:
        """Return once the webhook of this event is stored.

        Args:
            event: The end of a job.
            after: How long it waits in the delay levels.
            tries: How often it was tried before.
            asked: Whether a redelivery was requested: it is sent even if an earlier try was accepted.
            put_off: How often it was put off since the last try.
        """

    async def publish_poison(self, body: bytes, *, queue: str, reason: str) -> None:
        """Return once the poison queue has an unreadable message."""
