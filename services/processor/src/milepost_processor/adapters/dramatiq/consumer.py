"""Consumes one work queue over a connection of its own, as the flow control asks."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from dramatiq.broker import MessageProxy
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer
from dramatiq.errors import ConnectionClosed
from pika.exceptions import AMQPError  # type: ignore[import-untyped]

from milepost_contracts.errors import RefusedMessage
from milepost_contracts.messages.job_events import Command, JobEvent
from milepost_contracts.messages.received import Received
from milepost_contracts.messages.topology import MAX_DELIVERIES
from milepost_contracts.messages.trust import Trust
from milepost_processor import metrics
from milepost_processor.core.put_off import Eligibility, given_back
from milepost_processor.core.runner import Delivery
from milepost_processor.errors import DeliveredTooOften, Stopping

if TYPE_CHECKING:
    from milepost_processor.adapters.dramatiq.broker import CommandBroker

log = structlog.get_logger(__name__)
T = TypeVar("T")

NOT_FOUND = 404
NACK_DOES_NOT_COUNT_SINCE = (4, 3)
OWNER = "_milepost_consumer"
"""The attribute of a message that holds the consumer which received it."""


@dataclass(frozen=True, kw_only=True)
class Consuming:
    """How queues are consumed."""

    #: The consumer timeout that RabbitMQ gets; most versions ignore it, see `core.consumer_timeout`.
    timeout: timedelta
    #: Queues of which one message at a time is taken.
    one_at_a_time: frozenset[str]
    #: Decides which messages are believed.
    trust: Trust
    #: Decides which messages are put off.
    eligibility: Eligibility
    #: Publishes an event; the future resolves when it is confirmed.
    publish: Callable[[JobEvent], Future[None]]
    #: Whether a nack counts towards the delivery limit.
    nack_counts: bool = True
    #: Called, from any thread, when a queue does not exist any more.
    queue_missing: Callable[[], None] = lambda: None


class CommandConsumer(_RabbitmqConsumer):
    """Consumes one work queue.

    Dramatiq's thread iterates over it, and everything that concerns its connection runs there. It subscribes, or
    fetches single messages, when the flow control asks for it.
    """

    def __init__(self, broker: "CommandBroker", queue_name: str, prefetch: int, timeout: int) -> None:
        self._consuming = broker.consuming
        self.one_at_a_time = queue_name in self._consuming.one_at_a_time
        #: The maximum number of messages that it holds.
        self.limit = 1 if self.one_at_a_time else prefetch
        self._report = broker.health[queue_name]
        self._received = Received(b"", "", None, None, None)
        self._headers: dict[str, Any] = {}
        self._inactivity_timeout = timeout / 1000
        self._arrived: deque[tuple[Any, Any, Any]] = deque()
        self._asked: deque[Callable[[], None]] = deque()
        self._asking: Future[Any] | None = None
        self._subscription: str | None = None
        self._canceled = False
        #: The prefetch of the subscription; 0 without one.
        self.prefetch = 0
        self._first_tag = self._next_tag = 1
        try:
            super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        except (ConnectionClosed, OSError) as error:
            self._report.lost(_reason(error))
            raise
        self.channel.add_on_cancel_callback(self._on_cancel)
        # Replaces Dramatiq's iterator, which has not begun to consume.
        self.iterator = self._deliveries()
        self._report.connected()

    # Called by the flow control, on its thread.

    @property
    def is_alive(self) -> bool:
        """Whether messages that it received can still be acknowledged."""
        return bool(self.connection.is_open and self.channel.is_open)

    @property
    def is_idle(self) -> bool:
        """Whether it has done what it was asked to do."""
        return self._asking is None or self._asking.done()

    @property
    def held(self) -> int:
        """The number of messages that are not acknowledged."""
        return len(self.known_tags) + len(self._arrived)

    @property
    def credit(self) -> int:
        """How many messages the broker may deliver at present."""
        taken: int = sum(tag >= self._first_tag for tag in tuple(self.known_tags)) + len(self._arrived)
        return max(0, self.prefetch - taken)

    def subscribe(self, prefetch: int) -> None:
        """Have the broker deliver up to `prefetch` further messages; none if it is 0."""
        self._ask(partial(self._subscribe, prefetch))

    def fetch(self) -> Future[bool]:
        """Get one message, if the queue has one; the future says whether."""
        return self._ask(self._fetch)

    def give_back(self, message: MessageProxy) -> Future[None]:
        """Put a message that was not started back into its queue; the future resolves when it is there."""
        done: Future[None] = Future()
        done.set_result(None)
        if not self.is_alive:  # the broker has put it back
            return done
        if self._consuming.nack_counts:  # it could be dead-lettered without a start: a copy takes its place
            return self._replace(message, given_back(_command(message), message.kwargs["delivery"]))
        self._settle(message, partial(self.channel.basic_nack, message._tag, requeue=True))
        return done

    # Called by the thread that consumes.

    def __next__(self) -> MessageProxy | None:
        try:
            message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        except ConnectionClosed as error:
            self._report.lost(_reason(error), refused=_reply_code(error) is not None)
            if _reply_code(error) == NOT_FOUND:
                log.warning("queue_missing", queue=self.queue_name)
                self._consuming.queue_missing()
            raise
        if message is None:
            return None
        try:
            self._consuming.trust.check(_command(message), self._received)
        except RefusedMessage as error:
            log.warning("message_refused", queue=self.queue_name, reason=str(error))
            self.nack(message)
            return None
        if message.queue_name != self.queue_name:
            log.warning("message_misrouted", queue=self.queue_name, message_queue=message.queue_name)
            self.nack(message)
            return None
        message.kwargs["delivery"] = _delivery(self._headers)
        setattr(message, OWNER, self)
        if self.broker.stopping:
            self.give_back(message)
            return None
        return None if self._put_off(message) else message

    def _deliveries(self) -> Iterator[Any]:
        while not self._canceled:
            while self._asked:
                self._asked.popleft()()
            if not self._arrived:
                self.channel._process_data_events(time_limit=self._inactivity_timeout)
            if self._arrived:
                method, properties, body = self._arrived.popleft()
                self._headers = properties.headers or {}
                self._received = Received(
                    body=body,
                    routing_key=method.routing_key,
                    user_id=properties.user_id,
                    correlation_id=properties.correlation_id,
                    content_type=properties.content_type,
                )
                yield method, properties, body
            elif not self._asked:
                yield None, None, None

    def _ask(self, act: Callable[[], T]) -> "Future[T]":
        """Have the consuming thread act, when it is not within a callback of the connection."""
        asking: Future[T] = Future()

        def answer() -> None:
            try:
                asking.set_result(act())
            except BaseException as error:
                asking.set_exception(error)
                raise

        self._asking = asking
        self._asked.append(answer)
        with suppress(AMQPError):
            self.connection.add_callback_threadsafe(lambda: None)  # wakes it
        return asking

    def _subscribe(self, prefetch: int) -> None:
        if self._subscription is not None:
            self._unsubscribe(self._subscription)
            self._subscription, self.prefetch = None, 0
        if prefetch:
            self.channel.basic_qos(prefetch_count=prefetch)
            self.prefetch, self._first_tag = prefetch, self._next_tag
            timeout = int(self._consuming.timeout.total_seconds() * 1000)
            self._subscription = self.channel.basic_consume(
                self.queue_name, self._on_delivery, arguments={"x-consumer-timeout": timeout}
            )
            self._report.accepted()

    def _unsubscribe(self, tag: str) -> None:
        """Cancel the subscription, and keep what arrives before the broker's answer.

        Pika's own `basic_cancel` rejects that, and the broker would count it towards the delivery limit of jobs that
        were never started.
        """
        wire, answered = self.channel._impl, list[Any]()
        wire.basic_cancel(tag, callback=answered.append)
        wire._cancelled.discard(tag)
        self.channel._flush_output(lambda: bool(answered))
        self.channel._dispatch_events()
        self.channel._consumer_infos.pop(tag, None)

    def _fetch(self) -> bool:
        self._subscribe(0)
        method, properties, body = self.channel.basic_get(self.queue_name)
        self._report.accepted()
        if method is None:
            return False
        self._on_delivery(self.channel, method, properties, body)
        return True

    def _on_delivery(self, channel: Any, method: Any, properties: Any, body: Any) -> None:
        del channel
        self._arrived.append((method, properties, body))
        self._next_tag = method.delivery_tag + 1
        if self.prefetch < self.limit and not self.credit:
            self.broker.changed.set()

    def _on_cancel(self, frame: Any) -> None:
        """End the iteration, because the broker has cancelled the subscription: its queue is gone."""
        del frame
        self._report.lost("its queue was deleted", refused=True)
        self._canceled = True
        self._consuming.queue_missing()

    def _put_off(self, message: MessageProxy) -> bool:
        """Put the message off, if this processor can't run it; return whether that was so."""
        command, delivery = _command(message), message.kwargs["delivery"]
        obstacle = self._consuming.eligibility.obstacle(command.job)
        if obstacle is None:
            return False
        postponed = self._consuming.eligibility.put_off(command, delivery, obstacle)
        if postponed is None:
            self.nack(message)
            return True
        metrics.put_off.labels(queue=command.job.queue).inc()
        log.info("job_put_off", job_id=command.job.id, type=command.job.type, reason=obstacle.reason)
        self._replace(message, postponed)
        return True

    # Called by any thread.

    def close(self) -> None:
        try:
            super().close()  # type: ignore[no-untyped-call]
        finally:  # it leaves the connection open if the broker has closed the channel
            if self.connection.is_open:
                with suppress(AMQPError):
                    self.connection.close()

    def ack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is not self:
            log.info("ack_dropped", reason="its connection is lost", message_id=message.message_id)
        elif isinstance(message._exception, Stopping):
            pass  # requeued when the connection closes; if requeued now, it could be delivered here again
        elif message._exception is not None:
            requeue = not isinstance(message._exception, DeliveredTooOften)
            self._settle(message, partial(self.channel.basic_reject, message._tag, requeue=requeue))
        else:
            super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: MessageProxy) -> None:
        if getattr(message, OWNER, self) is self:
            super().nack(message)  # type: ignore[no-untyped-call]

    def _nack(self, tag: int) -> None:
        metrics.dead_lettered_messages.labels(queue=self.queue_name).inc()
        log.warning("message_dead_lettered", queue=self.queue_name)
        super()._nack(tag)  # type: ignore[no-untyped-call]

    def _settle(self, message: MessageProxy, act: Callable[[], None]) -> None:
        self.known_tags.discard(message._tag)
        with suppress(AMQPError):  # a lost connection has requeued everything already
            self.connection.add_callback_threadsafe(act)

    def _replace(self, message: MessageProxy, event: JobEvent) -> Future[None]:
        """Acknowledge the message once the event that takes its place is confirmed; until then it stays here."""
        replaced: Future[None] = Future()

        def confirmed(publishing: "Future[None]") -> None:
            if not publishing.cancelled() and publishing.exception() is None:
                self._settle(message, partial(self.channel.basic_ack, message._tag))
            replaced.set_result(None)

        try:
            self._consuming.publish(event).add_done_callback(confirmed)
        except Stopping:  # requeued when the connection closes
            replaced.set_result(None)
        return replaced


def nack_counts(version: str) -> bool:
    """Return whether a nack counts towards the delivery limit of this version of RabbitMQ; if in doubt, it does."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return numbers < NACK_DOES_NOT_COUNT_SINCE


def _command(message: MessageProxy) -> Command:
    command: Command = message.kwargs["command"]
    return command


def _delivery(headers: dict[str, Any]) -> Delivery:
    """Return how often the message was delivered before: RabbitMQ 4.3 counts acquisitions, older ones deliveries."""
    acquired, delivered = (_counted(headers.get(name)) for name in ("x-acquired-count", "x-delivery-count"))
    return Delivery(count=max(acquired, delivered), failed=delivered)


def _counted(header: object) -> int:
    """Return a count that a header contains, within limits: a publisher can set any header."""
    return min(MAX_DELIVERIES - 1, header) if isinstance(header, int) and header > 0 else 0


def _reply_code(error: BaseException) -> int | None:
    """Return the code with which the broker has closed the channel or the connection, if it has."""
    codes = (getattr(cause, "reply_code", None) for cause in (error, *error.args))
    return next((code for code in codes if isinstance(code, int)), None)


def _reason(error: BaseException) -> str:
    cause = next((cause for cause in error.args if isinstance(cause, BaseException)), error)
    return getattr(cause, "reply_text", None) or str(cause) or type(cause).__name__
