"""Dramatiq's RabbitMQ broker, with Milepost's topology and acknowledgements.

What differs from stock Dramatiq 2.2:
- queues are those of `milepost_contracts.messages.topology`, declared elsewhere: Dramatiq adds none;
- a message keeps the broker's delivery counts, from which the delivery number follows;
- consumers set the consumer timeout that the jobs need, and the connection survives a handler that holds the GIL;
- quarantine queues have a prefetch of one;
- a message belongs to the consumer that received it: acks after a reconnect, with a tag that now means another
  message, are dropped, and what a lost connection had prefetched is not started;
- a message whose actor raised is not acknowledged: it goes back to its queue, or to the dead-letter queue;
- a stopping worker takes no new messages: stock Dramatiq continues to receive, and holds messages until the last
  handler has ended.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog
from dramatiq.broker import Broker, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import iter_queue
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message
from dramatiq.middleware import Middleware, SkipMessage
from dramatiq.worker import Worker
from pika.exceptions import AMQPError  # type: ignore[import-untyped]

from milepost_contracts.messages.topology import MAX_DELIVERIES
from milepost_processor import metrics
from milepost_processor.core.runner import Delivery
from milepost_processor.errors import DeliveredTooOften, Stopping

log = structlog.get_logger(__name__)

NOT_FOUND = 404
OWNER = "_milepost_consumer"
"""The attribute of a message that holds the consumer which received it."""

_TCP = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""The kernel notices a broker whose host is gone, even while a handler holds the interpreter."""


@dataclass(frozen=True, kw_only=True)
class Consuming:
    """How queues are consumed."""

    #: The consumer timeout that RabbitMQ gets; ignored before 3.12.
    timeout: timedelta
    #: Queues with a prefetch of one.
    one_at_a_time: frozenset[str]
    #: Called, from any thread, when a queue does not exist.
    queue_missing: Callable[[], None] = lambda: None


class _CommandConsumer(_RabbitmqConsumer):
    """Consumes one work queue over a connection of its own."""

    def __init__(self, broker: "CommandBroker", queue_name: str, prefetch: int, timeout: int) -> None:
        consuming = broker.consuming
        prefetch = 1 if queue_name in consuming.one_at_a_time else prefetch
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._headers: dict[str, Any] = {}
        self._inactivity_timeout = timeout / 1000
        self._queue_missing = consuming.queue_missing
        # Replaces Dramatiq's iterator, which has not begun to consume.
        deliveries: Iterator[Any] = iter(())
        if not broker.stopping:
            deliveries = self.channel.consume(
                queue_name,
                arguments={"x-consumer-timeout": int(consuming.timeout.total_seconds() * 1000)},
                inactivity_timeout=self._inactivity_timeout,
            )
        self.iterator = self._keep_headers(deliveries)

    def _keep_headers(self, deliveries: Iterator[Any]) -> Iterator[Any]:
        for method, properties, body in deliveries:
            self._headers = (properties and properties.headers) or {}
            yield method, properties, body
        while self.broker.stopping:  # no more deliveries; heartbeats and acknowledgements must still be sent
            self.connection.process_data_events(time_limit=self._inactivity_timeout)
            yield None, None, None

    def stop_consuming(self, held: Iterable[MessageProxy]) -> None:
        """Stop consuming, and requeue the messages that are held and not started. May be called from any thread."""
        with suppress(AMQPError):  # a lost connection has requeued everything already
            self.connection.add_callback_threadsafe(self.channel.cancel)
            for message in held:
                self.known_tags.discard(message._tag)
                # A nack: RabbitMQ 4.3 counts rejected deliveries towards the delivery limit, but not these.
                self.connection.add_callback_threadsafe(partial(self.channel.basic_nack, message._tag, requeue=True))

    def __next__(self) -> MessageProxy | None:
        try:
            message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        except ConnectionClosed as error:
            if any(getattr(cause, "reply_code", None) == NOT_FOUND for cause in error.args):
                log.warning("queue_missing", queue=self.queue_name)
                self._queue_missing()
            raise
        if message is None:
            return None
        if message.queue_name != self.queue_name:
            log.warning("message_misrouted", queue=self.queue_name, message_queue=message.queue_name)
            self.nack(message)
            return None
        message.kwargs["delivery"] = _delivery(self._headers)
        setattr(message, OWNER, self)
        return message

    @property
    def is_alive(self) -> bool:
        """Whether messages that it received can still be acknowledged."""
        return bool(self.connection.is_open and self.channel.is_open)

    def ack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is not self:
            log.info("ack_dropped", reason="its connection is lost", message_id=message.message_id)
        elif isinstance(message._exception, Stopping):
            pass  # requeued when the connection closes; if requeued now, it could be delivered here again
        elif message._exception is not None:
            self.known_tags.discard(message._tag)
            requeue = not isinstance(message._exception, DeliveredTooOften)
            self.connection.add_callback_threadsafe(partial(self.channel.basic_reject, message._tag, requeue=requeue))
        else:
            super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is self:
            super().nack(message)  # type: ignore[no-untyped-call]

    def _nack(self, tag: int) -> None:
        metrics.dead_lettered_messages.labels(queue=self.queue_name).inc()
        log.warning("message_dead_lettered", queue=self.queue_name)
        super()._nack(tag)  # type: ignore[no-untyped-call]


class CommandWorker(Worker):
    """Takes no new messages once it stops, and requeues those it holds: they need not wait for its handlers."""

    broker: "CommandBroker"

    def stop(self, timeout: int = 600_000) -> None:
        self.broker.stopping = True  # consumers that reconnect meanwhile take nothing either
        held = defaultdict(list)
        for item in iter_queue(self.work_queue):  # type: ignore[no-untyped-call]
            held[getattr(item.message, OWNER)].append(item.message)
        for thread in self.consumers.values():
            if isinstance(thread.consumer, _CommandConsumer):
                thread.consumer.stop_consuming(held[thread.consumer])
        super().stop(timeout)


class _SkipLostDeliveries(Middleware):
    """Skips what a lost connection had prefetched: the broker delivers it again, so it must not start here too."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        del broker
        if not getattr(message, OWNER).is_alive:
            raise SkipMessage("its connection is lost")


class CommandBroker(RabbitmqBroker):
    """Consumes work queues that `milepost_rabbit.declare` made; publishes nothing."""

    def __init__(self, url: str, consuming: Consuming) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[_SkipLostDeliveries()])
        self.consuming = consuming
        #: Whether the worker stops: consumers take no new messages.
        self.stopping = False

    @property
    def consumer_class(self) -> type[_CommandConsumer]:
        return _CommandConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Register a queue to consume. If it does not exist, the consumer fails and tries again."""
        del ensure
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        raise NotImplementedError("jobs are submitted through the gateway, not through Dramatiq")


def _delivery(headers: dict[str, Any]) -> Delivery:
    """Return how often the message was delivered before: RabbitMQ 4.3 counts acquisitions, older ones deliveries."""
    acquired, delivered = (_counted(headers.get(name)) for name in ("x-acquired-count", "x-delivery-count"))
    return Delivery(count=max(acquired, delivered), failed=delivered)


def _counted(header: object) -> int:
    """Return a count that a header contains, within limits: a publisher can set any header."""
    return min(MAX_DELIVERIES - 1, header) if isinstance(header, int) and header > 0 else 0


def connection_url(url: str, *, heartbeat: timedelta) -> str:
    """Add what a consuming connection needs to a broker URL."""
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}heartbeat={int(heartbeat.total_seconds())}&tcp_options={quote(repr(_TCP))}"
