"""Dramatiq's RabbitMQ broker, with our topology and without its traps (guarantees §3).

What differs from stock Dramatiq 2.2:
- queues are those of `milepost_contracts.topology`, declared elsewhere: Dramatiq adds no delay or dead-letter queue;
- a message keeps what the broker said of its delivery, which is the fence;
- RabbitMQ is told how long a job may take, and a handler that holds the interpreter keeps its connection;
- what is in quarantine is taken one at a time;
- a message belongs to the consumer that received it: acks after a reconnect, with a tag that now means another
  message, are dropped, and what a dead connection had prefetched is not started;
- an actor that raised is not acknowledged: its message goes back to the queue, or to the undertaker;
- a worker that is to stop takes nothing new: stock Dramatiq goes on to receive, and holds it until the last handler
  has ended.
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
from dramatiq.middleware import AsyncIO, Middleware, SkipMessage
from dramatiq.worker import Worker
from pika.exceptions import AMQPError  # type: ignore[import-untyped]

from milepost_contracts.topology import MOST_DELIVERIES
from milepost_processor import metrics
from milepost_processor.errors import DeliveredTooOften, Stopping
from milepost_processor.executor import Delivery

log = structlog.get_logger(__name__)

NOT_FOUND = 404
OWNER = "_milepost_consumer"
"""The attribute of a message that holds the consumer which received it."""

_TCP = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""A broker whose host is gone is noticed by the kernel, which needs no interpreter."""


@dataclass(frozen=True, kw_only=True)
class Consuming:
    """How queues are consumed."""

    #: How long RabbitMQ bears a delivery that is not acknowledged; before 3.12 it does not listen to us.
    timeout: timedelta
    #: Queues of which one message is taken at a time.
    one_at_a_time: frozenset[str]
    #: Called, from any thread, when a queue is not there.
    queue_missing: Callable[[], None] = lambda: None


class CommandConsumer(_RabbitmqConsumer):
    """Consumes one work queue over a connection of its own."""

    def __init__(self, broker: "CommandBroker", queue_name: str, prefetch: int, timeout: int) -> None:
        consuming = broker.consuming
        prefetch = 1 if queue_name in consuming.one_at_a_time else prefetch
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._headers: dict[str, Any] = {}
        self._look_every = timeout / 1000
        self._queue_missing = consuming.queue_missing
        # The iterator that Dramatiq made has not begun yet, and never will.
        deliveries: Iterator[Any] = iter(())
        if not broker.stopping:
            deliveries = self.channel.consume(
                queue_name,
                arguments={"x-consumer-timeout": int(consuming.timeout.total_seconds() * 1000)},
                inactivity_timeout=self._look_every,
            )
        self.iterator = self._keep_headers(deliveries)

    def _keep_headers(self, deliveries: Iterator[Any]) -> Iterator[Any]:
        for method, properties, body in deliveries:
            self._headers = (properties and properties.headers) or {}
            yield method, properties, body
        while self.broker.stopping:  # nothing comes any more; heartbeats and acknowledgements still go
            self.connection.process_data_events(time_limit=self._look_every)
            yield None, None, None

    def stop_consuming(self, held: Iterable[MessageProxy]) -> None:
        """Take nothing new, and give back what is held and has not begun. From any thread."""
        with suppress(AMQPError):  # without a connection nothing is consumed, and nothing is held
            self.connection.add_callback_threadsafe(self.channel.cancel)
            for message in held:
                self.known_tags.discard(message._tag)
                # A nack: RabbitMQ 4.3 counts rejected deliveries towards the limit, and these not.
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
            log.warning("message_misrouted", queue=self.queue_name, says=message.queue_name)
            self.nack(message)
            return None
        message.kwargs["delivery"] = _delivery(self._headers)
        setattr(message, OWNER, self)
        return message

    @property
    def is_alive(self) -> bool:
        """Whether what it received is still ours to settle."""
        return bool(self.connection.is_open and self.channel.is_open)

    def ack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is not self:
            log.info("ack_dropped", reason="its connection is gone", message_id=message.message_id)
        elif isinstance(message._exception, Stopping):
            pass  # it goes back when the connection closes; given back now, it could come here again, and again
        elif message._exception is not None:
            self.known_tags.discard(message._tag)
            again = not isinstance(message._exception, DeliveredTooOften)
            self.connection.add_callback_threadsafe(partial(self.channel.basic_reject, message._tag, requeue=again))
        else:
            super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is self:
            super().nack(message)  # type: ignore[no-untyped-call]

    def _nack(self, tag: int) -> None:
        metrics.parked.labels(queue=self.queue_name).inc()
        log.warning("message_parked", queue=self.queue_name)
        super()._nack(tag)  # type: ignore[no-untyped-call]


class CommandWorker(Worker):
    """Takes nothing new once it is to stop, so that others need not wait for its last handler."""

    broker: "CommandBroker"

    def stop(self, timeout: int = 600_000) -> None:
        self.broker.stopping = True  # who connects anew meanwhile takes nothing either
        held = defaultdict(list)
        for item in iter_queue(self.work_queue):  # type: ignore[no-untyped-call]
            held[getattr(item.message, OWNER)].append(item.message)
        for thread in self.consumers.values():
            if isinstance(thread.consumer, CommandConsumer):
                thread.consumer.stop_consuming(held[thread.consumer])
        super().stop(timeout)


class SkipLostDeliveries(Middleware):
    """What a lost connection had prefetched is delivered again elsewhere: it must not start here too."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        del broker
        if not getattr(message, OWNER).is_alive:
            raise SkipMessage("its connection is gone")


class CommandBroker(RabbitmqBroker):
    """Consumes work queues that `milepost_rabbit.declare` made; publishes nothing."""

    def __init__(self, url: str, consuming: Consuming) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[AsyncIO(), SkipLostDeliveries()])
        self.consuming = consuming
        #: Whether nothing new is to be taken any more.
        self.stopping = False

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


def _delivery(headers: dict[str, Any]) -> Delivery:
    """How often the broker delivered the message before: RabbitMQ 4.3 counts acquisitions, older ones deliveries."""
    acquired, delivered = (_counted(headers.get(name)) for name in ("x-acquired-count", "x-delivery-count"))
    return Delivery(count=max(acquired, delivered), failed=delivered)


def _counted(claimed: object) -> int:
    """A message may claim anything in its headers."""
    return min(MOST_DELIVERIES - 1, claimed) if isinstance(claimed, int) and claimed > 0 else 0


def connection_url(url: str, *, heartbeat: timedelta) -> str:
    """Add what a consuming connection needs to a broker URL."""
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}heartbeat={int(heartbeat.total_seconds())}&tcp_options={quote(repr(_TCP))}"
