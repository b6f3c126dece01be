"""Dramatiq's RabbitMQ broker, with our topology and without its traps (guarantees §3).

What differs from stock Dramatiq 2.2:
- queues are those of `milepost_contracts.topology`, declared elsewhere: Dramatiq adds no delay or dead-letter queue;
- a message keeps what the broker said of its delivery, which is the fence;
- a message belongs to the consumer that received it: acks after a reconnect, with a tag that now means another
  message, are dropped, and what a dead connection had prefetched is not started;
- an actor that raised is not acknowledged: its message goes back to the queue.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import structlog
from dramatiq.broker import Broker, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.message import Message
from dramatiq.middleware import AsyncIO, Middleware, SkipMessage

from milepost_processor import metrics
from milepost_processor.execution import Delivery

log = structlog.get_logger(__name__)

OWNER = "_milepost_consumer"
"""The attribute of a message that holds the consumer which received it."""


MOST_DELIVERIES = 99_999
"""A message may claim any count in its headers; an attempt must fit the sequence of events."""


class CommandConsumer(_RabbitmqConsumer):
    """Consumes one work queue over a connection of its own."""

    def __init__(self, broker: Broker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._headers: dict[str, Any] = {}
        self.iterator = self._keep_headers(self.iterator)

    def _keep_headers(self, deliveries: Iterator[Any]) -> Iterator[Any]:
        for method, properties, body in deliveries:
            self._headers = (properties and properties.headers) or {}
            yield method, properties, body

    def __next__(self) -> MessageProxy | None:
        message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        if message is None:
            return None
        if message.queue_name != self.queue_name:
            log.warning("message_misrouted", queue=self.queue_name, says=message.queue_name)
            self.nack(message)
            return None
        message.kwargs["delivery"] = Delivery(count=_delivery_count(self._headers))
        setattr(message, OWNER, self)
        return message

    @property
    def is_alive(self) -> bool:
        """Whether what it received is still ours to settle."""
        return bool(self.connection.is_open and self.channel.is_open)

    def ack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is not self:
            log.info("ack_dropped", reason="its connection is gone", message_id=message.message_id)
        elif message._exception is not None:
            self.known_tags.discard(message._tag)
            self.connection.add_callback_threadsafe(partial(self.channel.basic_reject, message._tag, requeue=True))
        else:
            super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is self:
            super().nack(message)  # type: ignore[no-untyped-call]

    def _nack(self, tag: int) -> None:
        metrics.parked.labels(queue=self.queue_name).inc()
        log.warning("message_parked", queue=self.queue_name)
        super()._nack(tag)  # type: ignore[no-untyped-call]


class SkipLostDeliveries(Middleware):
    """What a lost connection had prefetched is delivered again elsewhere: it must not start here too."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        del broker
        if not getattr(message, OWNER).is_alive:
            raise SkipMessage("its connection is gone")


class CommandBroker(RabbitmqBroker):
    """Consumes work queues that `milepost_rabbit.declare` made; publishes nothing."""

    def __init__(self, url: str) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[AsyncIO(), SkipLostDeliveries()])

    @property
    def consumer_class(self) -> type[CommandConsumer]:
        return CommandConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Note that the queue is to be consumed. A missing one fails the consumer, which tries again."""
        del ensure
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        raise NotImplementedError("jobs are submitted through the gateway, not through Dramatiq")


def _delivery_count(headers: dict[str, Any]) -> int:
    """How often the broker delivered the message before: RabbitMQ 4.3 counts acquisitions, older ones deliveries."""
    counts = (headers.get("x-acquired-count"), headers.get("x-delivery-count"))
    return min(MOST_DELIVERIES, max((count for count in counts if isinstance(count, int) and count > 0), default=0))


def connection_url(url: str) -> str:
    """Add what a consuming connection needs to a broker URL."""
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}heartbeat=30"
