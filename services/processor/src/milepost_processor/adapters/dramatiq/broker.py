"""Dramatiq's RabbitMQ broker, with Milepost's topology and acknowledgements.

What differs from stock Dramatiq 2.2:
- queues are those of `milepost_contracts.messages.topology`, declared elsewhere: Dramatiq adds none;
- a message keeps the broker's delivery counts, from which the delivery number follows;
- consumers ask for the consumer timeout that the jobs need, which some versions of RabbitMQ heed;
- the connection survives a handler that holds the GIL;
- a processor takes only what it can start within a moment (`flow`), and one job of a quarantine queue at a time;
- a job that it can't run, and that another processor may run, is put off;
- a message belongs to the consumer that received it: acks after a reconnect, with a tag that now means another
  message, are dropped, and what a lost connection had prefetched is not started;
- a message whose actor raised is not acknowledged: it goes back to its queue, or to the dead-letter queue;
- a stopping worker takes no new messages: stock Dramatiq continues to receive, and holds messages until the last
  handler has ended;
- why a queue is not consumed can be asked.
"""

import threading
from collections import defaultdict
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from dramatiq.broker import Broker, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.message import Message
from dramatiq.middleware import Middleware, SkipMessage
from dramatiq.worker import Worker

from milepost_processor import metrics
from milepost_processor.adapters.dramatiq.consumer import OWNER, CommandConsumer, Consuming
from milepost_processor.adapters.dramatiq.flow import FlowControl, WorkQueue

_TCP = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""The kernel notices a broker whose host is gone, even while a handler holds the interpreter."""


class QueueHealth:
    """Whether a queue is consumed; written by the thread that consumes it."""

    def __init__(self) -> None:
        #: Why it is not consumed, while it is not.
        self.problem: str | None = "not connected yet"
        self._refused = True

    def connected(self) -> None:
        """Record a connection. After a refusal, the broker must accept something first."""
        if not self._refused:
            self.problem = None

    def accepted(self) -> None:
        """Record that the broker lets this processor consume the queue."""
        self.problem, self._refused = None, False

    def lost(self, reason: str, *, refused: bool = False) -> None:
        """Record that the connection is lost, or that the broker has refused something."""
        self.problem, self._refused = reason, self._refused or refused


class CommandWorker(Worker):
    """Takes only what it can start, and nothing once it stops: then it gives back what it holds."""

    broker: "CommandBroker"

    def __init__(self, broker: "CommandBroker", *, worker_timeout: int, worker_threads: int) -> None:
        super().__init__(broker, worker_timeout=worker_timeout, worker_threads=worker_threads)
        # Dramatiq prefetches twice as many: long jobs would queue behind one another on a busy worker.
        self.queue_prefetch = worker_threads
        self.work_queue = WorkQueue(worker_threads, broker.changed)
        self.flow = FlowControl(
            self.work_queue, threads=worker_threads, consumers=self._consumers, changed=broker.changed
        )
        metrics.held.set_function(self.work_queue.qsize)

    def start(self) -> None:
        super().start()
        self.flow.start()

    def stop(self, timeout: int = 600_000) -> None:
        self.broker.stopping = True
        self.flow.stop()
        super().stop(timeout)

    def _consumers(self) -> list[CommandConsumer]:
        found = (thread.consumer for thread in self.consumers.values())
        return [one for one in found if isinstance(one, CommandConsumer)]


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
        #: Set when the flow control has something to adjust.
        self.changed = threading.Event()
        #: Of each queue.
        self.health: defaultdict[str, QueueHealth] = defaultdict(QueueHealth)

    @property
    def consumer_class(self) -> type[CommandConsumer]:
        return CommandConsumer

    @property
    def not_consumed(self) -> dict[str, str]:
        """The queues that are not consumed, and why."""
        problems = {queue: self.health[queue].problem for queue in sorted(self.queues)}
        return {queue: problem for queue, problem in problems.items() if problem is not None}

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Register a queue to consume. If it does not exist, the consumer fails and tries again."""
        del ensure
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        raise NotImplementedError("jobs are submitted through the gateway, not through Dramatiq")


def connection_url(url: str, *, heartbeat: timedelta) -> str:
    """Add what a consuming connection needs to a broker URL."""
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}heartbeat={int(heartbeat.total_seconds())}&tcp_options={quote(repr(_TCP))}"
