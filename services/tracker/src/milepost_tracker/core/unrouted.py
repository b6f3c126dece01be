"""Handles messages whose queue did not exist: the queue is declared, and the message published again.

Somebody deleted the queue or its binding, or a policy let it expire. Heartbeats and progress are discarded: the next
one carries all of it again.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import structlog

from milepost_contracts.clock import now
from milepost_contracts.messages.delay_levels import delay_words
from milepost_contracts.messages.job_events import (
    COMMANDS,
    AnyJobMessage,
    JobPostponed,
    JobProgressed,
    JobRetrying,
    JobScheduled,
)
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.topology import WEBHOOK_KEY, WORKER_KEY
from milepost_contracts.messages.trust import Trust
from milepost_tracker import metrics
from milepost_tracker.core.projector import Poison, decode_all, each_alone
from milepost_tracker.ports.consumer import Delivery
from milepost_tracker.ports.message_router import Message, MessageRouter, Stage

log = structlog.get_logger(__name__)
D = TypeVar("D", bound=Delivery)

KEYS_LOGGED = 10


class UnroutedHandler:
    """Handles the messages of the unrouted queue."""

    def __init__(self, trust: Trust, router: MessageRouter) -> None:
        self._trust = trust
        self._router = router

    async def handle(self, deliveries: Sequence[D]) -> list[Poison[D]]:
        """Return once every message is where its way goes on; return those that can't be decoded or are not believed.

        What is published again has this tracker's user, so only what is believed may be published.
        """
        keys = {delivery.received.routing_key for delivery in deliveries}
        log.error("messages_unrouted", count=len(deliveries), keys=sorted(keys)[:KEYS_LOGGED])
        metrics.unrouted.inc(len(deliveries))
        handled = [one for one in deliveries if not one.received.routing_key.startswith(_REPEATED)]
        good, poison = decode_all(handled, self._decode)
        await self._router.declare({message.job.queue for _, message in good if isinstance(message, COMMANDS)})
        return poison + await each_alone(good, self._publish)

    def _decode(self, received: Received) -> AnyJobMessage:
        is_webhook = received.routing_key.startswith(f"{WEBHOOK_KEY}.")
        return self._trust.webhook(received) if is_webhook else self._trust.job_message(received)

    async def _publish(self, delivery: Delivery, message: AnyJobMessage) -> None:
        key, stage = _next(message, delivery.received.routing_key)
        again = Message(routing_key=key, body=delivery.received.body, subject=message.subject, headers=delivery.headers)
        await self._router.publish(again, to=stage)


#: `job.<event>.<queue>.<type>`, or `webhook.send.<queue>.<type>`; the bits of a delay may follow.
_COMMAND_WORDS = 4
_REPEATED = (f"{WORKER_KEY}.", f"{JobProgressed.fact}.")


def _next(message: AnyJobMessage, key: str) -> tuple[str, Stage]:
    """Return the routing key of a message and what it passes next. A webhook is sent at once."""
    if key.startswith(f"{WEBHOOK_KEY}."):
        return key, "entry"
    key = message.routing_key
    if not isinstance(message, COMMANDS):
        return key, "events"
    if (left := _time_left(message)) > timedelta(0):
        return ".".join([*key.split(".")[:_COMMAND_WORDS], delay_words(left)]), "levels"
    return key, "entry"


def _time_left(command: AnyJobMessage) -> timedelta:
    if isinstance(command, JobScheduled | JobRetrying | JobPostponed) and command.job.run_at is not None:
        return command.job.run_at - now()
    return timedelta(0)
