"""Everything that exists at the broker, as values. `milepost_rabbit.declare` is the one place that declares it.

milepost.jobs         topic    job.<event>.<queue>.<type> → work.<queue>, quarantine.<queue>, the delay levels,
                               tracker.lifecycle, tracker.progress, log.jobs, milepost.control
milepost.delay.NN     topic    job.<event>.<queue>.<type>.<bits> → delay.NN, or the next lower level
milepost.webhooks     topic    webhook.send.<queue>.<type>.<bits> → the delay levels
milepost.due          topic    messages whose delay is over     → work.<queue>, quarantine.<queue>, tracker.webhooks
milepost.control      fanout   cancel requests                  → control.<processor>
milepost.workers      topic    processor.<event>                → tracker.workers
milepost.dead-letters fanout   dead letters                     → dead-letters, for the tracker
milepost.poison       fanout   unreadable messages              → poison, kept for operators
milepost.republished  fanout   events that the log would drop   → log.jobs
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Literal

from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    POSTPONED_IN_QUARANTINE,
    REQUESTS,
    CancelRequested,
    JobInterrupted,
    JobPostponed,
    JobProgressed,
    JobQuarantined,
    JobRetrying,
    JobScheduled,
    JobSubmitted,
)

#: Name and value of each, as the broker calls them.
Arguments = tuple[tuple[str, str | int], ...]

MAX_QUEUE_LENGTH = 1_000_000
"""How many jobs may wait in one queue before the broker refuses more, and the gateway answers 503."""
DELIVERY_LIMIT = 3
"""How often a job whose worker died is delivered again before it is dead-lettered."""
MAX_DELIVERIES = 100
"""Upper bound of the deliveries of one message. An event that the tracker publishes after it adds this to its delivery
number, and so sorts after all of them."""
UNLIMITED = 1_000_000_000
"""As a delivery limit: RabbitMQ 4 sets one of 20 by itself, and drops messages without a dead-letter exchange."""
WEBHOOK_KEY = "webhook.send"
"""A webhook's routing key begins with this; the job's queue and type and the bits of the delay follow."""
WAITING = (JobScheduled.fact, JobRetrying.fact, JobPostponed.fact)
"""Facts that wait in the delay levels, and go to their work queue from there."""
PROGRESS_LENGTH = 10_000
CONTROL_LENGTH = 10_000


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """An exchange, and the exchanges that feed it."""

    name: str
    kind: Literal["topic", "fanout"]
    #: The exchanges that feed it.
    bindings: tuple["Binding", ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Messages of an exchange, by their routing key."""

    exchange: Exchange
    key: str


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue and what is bound to it."""

    name: str
    bindings: tuple[Binding, ...]
    arguments: Arguments = ()
    #: Belongs to one connection and goes with it; all others are durable.
    exclusive: bool = False

    @property
    def dead_letters(self) -> bool:
        """Whether the broker itself dead-letters a rejected message."""
        return "x-dead-letter-exchange" in dict(self.arguments)


def _arguments(**arguments: str | int) -> Arguments:
    return tuple((f"x-{name.replace('_', '-')}", value) for name, value in arguments.items())


DROP_OLDEST = _arguments(
    queue_type="quorum", max_length=PROGRESS_LENGTH, overflow="drop-head", delivery_limit=UNLIMITED
)
"""A bounded queue that drops its oldest message. Replicated: a classic queue is gone while its node is (ADR 11)."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The exchanges and queues of one deployment; the namespace lets several share a broker."""

    namespace: str = "milepost"
    #: How long the log keeps lifecycle events.
    log_retention: timedelta = timedelta(days=7)
    #: How often a job whose worker died is delivered again.
    delivery_limit: int = DELIVERY_LIMIT

    def _name(self, what: str) -> str:
        return f"{self.namespace}.{what}"

    @cached_property
    def jobs(self) -> Exchange:
        return Exchange(name=self._name("jobs"), kind="topic")

    @cached_property
    def workers(self) -> Exchange:
        return Exchange(name=self._name("workers"), kind="topic")

    @cached_property
    def dead_letters(self) -> Exchange:
        return Exchange(name=self._name("dead-letters"), kind="fanout")

    @cached_property
    def poison(self) -> Exchange:
        return Exchange(name=self._name("poison"), kind="fanout")

    @cached_property
    def republished(self) -> Exchange:
        """Events that are published again, for the log alone."""
        return Exchange(name=self._name("republished"), kind="fanout")

    @cached_property
    def webhooks(self) -> Exchange:
        """Webhooks that are to be sent, at once or after a delay."""
        return Exchange(name=self._name("webhooks"), kind="topic")

    @cached_property
    def due(self) -> Exchange:
        """Messages whose delay is over, or that have none."""
        return Exchange(name=self._name("due"), kind="topic", bindings=(self._level_binding(0, "0"),))

    @cached_property
    def control(self) -> Exchange:
        """Cancel requests, for all processors."""
        return Exchange(
            name=self._name("control"),
            kind="fanout",
            bindings=(Binding(exchange=self.jobs, key=f"{CancelRequested.fact}.#"),),
        )

    def _replicated(self, dead_letter_exchange: str, **more: str | int) -> Arguments:
        """Return the arguments of a quorum queue that dead-letters at least once."""
        return _arguments(
            queue_type="quorum",
            dead_letter_exchange=dead_letter_exchange,
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
            **more,
        )

    # The delay levels.

    def _level_binding(self, level: int, bit: str) -> Binding:
        """Return the binding of messages that have this bit at the place of this level."""
        words = ["*"] * (4 + LEVELS - 1 - level) + [bit, "#"]
        return Binding(exchange=Exchange(name=self._name(f"delay.{level:02d}"), kind="topic"), key=".".join(words))

    def delay_exchange(self, level: int) -> Exchange:
        """Routes messages with this level's bit to its queue, the others to the next lower level."""
        if level == LEVELS - 1:
            waiting = (*WAITING, POSTPONED_IN_QUARANTINE)
            bindings = (
                *(Binding(exchange=self.jobs, key=f"{fact}.#") for fact in waiting),
                Binding(exchange=self.webhooks, key=f"{WEBHOOK_KEY}.#"),
            )
        else:
            bindings = (self._level_binding(level + 1, "0"),)
        return Exchange(name=self._name(f"delay.{level:02d}"), kind="topic", bindings=bindings)

    def delay_queue(self, level: int) -> Queue:
        """Holds messages for 2**level seconds, then passes them to the next lower level."""
        after = self.delay_exchange(level - 1) if level else self.due
        return Queue(
            name=self._name(f"delay.{level:02d}"),
            bindings=(self._level_binding(level, "1"),),
            arguments=self._replicated(after.name, message_ttl=2**level * 1000, max_length=MAX_QUEUE_LENGTH),
        )

    @cached_property
    def delay_queues(self) -> tuple[Queue, ...]:
        return tuple(self.delay_queue(level) for level in range(LEVELS))

    # The queues of processors.

    def work_queue_name(self, queue: str) -> str:
        return self._name(f"work.{queue}")

    def work(self, queue: str) -> Queue:
        """Jobs of one queue that wait for a processor."""
        return Queue(
            name=self.work_queue_name(queue),
            bindings=(
                Binding(exchange=self.jobs, key=f"{JobSubmitted.fact}.{queue}.*"),
                Binding(exchange=self.jobs, key=f"{JobInterrupted.fact}.{queue}.*"),
                *(Binding(exchange=self.due, key=f"{fact}.{queue}.#") for fact in WAITING),
            ),
            arguments=self._replicated(
                self.dead_letters.name, max_length=MAX_QUEUE_LENGTH, delivery_limit=self.delivery_limit
            ),
        )

    def quarantine_queue_name(self, queue: str) -> str:
        return self._name(f"quarantine.{queue}")

    def quarantine(self, queue: str) -> Queue:
        """Jobs that were dead-lettered once: each processor takes one of them at a time."""
        return Queue(
            name=self.quarantine_queue_name(queue),
            bindings=(
                Binding(exchange=self.jobs, key=f"{JobQuarantined.fact}.{queue}.*"),
                Binding(exchange=self.due, key=f"{POSTPONED_IN_QUARANTINE}.{queue}.#"),
            ),
            arguments=self._replicated(
                self.dead_letters.name, max_length=MAX_QUEUE_LENGTH, delivery_limit=self.delivery_limit
            ),
        )

    def control_queue(self, instance: str) -> Queue:
        """Cancel requests for one processor: bounded, and deleted with its connection."""
        return Queue(
            name=self._name(f"control.{instance}"),
            bindings=(Binding(exchange=self.control, key=""),),
            arguments=_arguments(max_length=CONTROL_LENGTH, overflow="drop-head"),
            exclusive=True,
        )

    # The queues of the tracker.

    def _lifecycle_bindings(self) -> tuple[Binding, ...]:
        facts = [event.fact for event in JOB_EVENTS if event.lifecycle] + [request.fact for request in REQUESTS]
        return tuple(Binding(exchange=self.jobs, key=f"{fact}.#") for fact in facts)

    @cached_property
    def lifecycle(self) -> Queue:
        """Lifecycle events on their way into the status view."""
        return Queue(
            name=self._name("tracker.lifecycle"),
            bindings=self._lifecycle_bindings(),
            arguments=self._replicated(
                self.dead_letters.name, max_length=10 * MAX_QUEUE_LENGTH, delivery_limit=UNLIMITED
            ),
        )

    @cached_property
    def progress(self) -> Queue:
        """Progress on its way into the status view: bounded, drops its oldest message (law 8)."""
        return Queue(
            name=self._name("tracker.progress"),
            bindings=(Binding(exchange=self.jobs, key=f"{JobProgressed.fact}.#"),),
            arguments=DROP_OLDEST,
        )

    @cached_property
    def webhook_queue(self) -> Queue:
        """Webhooks that are due. Not bounded: a tracker that could not publish one would stop projecting."""
        return Queue(
            name=self._name("tracker.webhooks"),
            bindings=(Binding(exchange=self.due, key=f"{WEBHOOK_KEY}.#"),),
            arguments=_arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    @cached_property
    def worker_queue(self) -> Queue:
        """Announcements and heartbeats of processors: bounded, drops its oldest message."""
        return Queue(
            name=self._name("tracker.workers"),
            bindings=(Binding(exchange=self.workers, key="processor.#"),),
            arguments=DROP_OLDEST,
        )

    @cached_property
    def log(self) -> Queue:
        """Every lifecycle event of the retention, to rebuild the view from (law 9)."""
        return Queue(
            name=self._name("log.jobs"),
            bindings=(*self._lifecycle_bindings(), Binding(exchange=self.republished, key="")),
            arguments=_arguments(queue_type="stream", max_age=f"{int(self.log_retention.total_seconds())}s"),
        )

    @cached_property
    def dead_letter_queue(self) -> Queue:
        """Dead letters, until the tracker has handled them. No TTL: a message leaves it by acknowledgement only."""
        return Queue(
            name=self._name("dead-letters"),
            bindings=(Binding(exchange=self.dead_letters, key=""),),
            arguments=_arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    @cached_property
    def poison_queue(self) -> Queue:
        """Unreadable messages, kept for operators. No TTL, and no consumer."""
        return Queue(
            name=self._name("poison"),
            bindings=(Binding(exchange=self.poison, key=""),),
            arguments=_arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    # Groups.

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges; each after those that feed it."""
        level_exchanges = tuple(self.delay_exchange(level) for level in reversed(range(LEVELS)))
        return (
            self.jobs,
            self.workers,
            self.dead_letters,
            self.poison,
            self.republished,
            self.control,
            self.webhooks,
            *level_exchanges,
            self.due,
        )

    @cached_property
    def shared_queues(self) -> tuple[Queue, ...]:
        """The queues that exist once in a deployment."""
        own = (self.dead_letter_queue, self.poison_queue, self.lifecycle, self.progress, self.worker_queue, self.log)
        return (*own, self.webhook_queue, *self.delay_queues)

    def work_queues(self, queues: Iterable[str]) -> tuple[Queue, ...]:
        """The queues that the processors of these job queues consume."""
        names = sorted(set(queues))
        return (*(self.work(name) for name in names), *(self.quarantine(name) for name in names))

    def accepting(self, queue: str, level: int | None = None) -> tuple[Queue, ...]:
        """The queues that must all exist before a job of this queue may be accepted, or wait at a level (law 1)."""
        waiting = () if level is None else (self.delay_queue(level),)
        return (*waiting, self.work(queue), self.lifecycle, self.log)
