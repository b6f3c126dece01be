"""Everything that exists at the broker, as values. `milepost_rabbit.declare` is the one place that declares it.

milepost.jobs      topic    job.<event>.<queue>.<type> → work.<queue>, quarantine.<queue>, the delay ladder,
                            tracker.lifecycle, tracker.progress, log.jobs, milepost.control
milepost.delay.NN  topic    job.<event>.<queue>.<type>.<bits> → delay.NN, or the next lower level
milepost.webhooks  topic    webhook.tell.<queue>.<type>.<bits> → the delay ladder
milepost.due       topic    what has waited its time   → work.<queue>, quarantine.<queue>, tracker.webhooks
milepost.control   fanout   cancel requests            → control.<processor>
milepost.fleet     topic    processor.<event>          → tracker.fleet
milepost.dead      fanout   what nobody could take     → parked, for the tracker's undertaker
milepost.poison    fanout   what nobody could read     → poison, kept for people
milepost.retold    fanout   what the log would forget  → log.jobs
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Literal

from milepost_contracts.delay import LEVELS
from milepost_contracts.events import (
    JOB_EVENTS,
    POSTPONED_IN_QUARANTINE,
    WISHES,
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

WORK_LENGTH = 1_000_000
"""How many jobs may wait in one queue before the broker refuses more, and the gateway answers 503."""
DELIVERY_LIMIT = 3
"""How often a job whose worker died is delivered again before it is parked."""
MOST_DELIVERIES = 100
"""No message is delivered so often: what follows on it has a turn beyond all of its deliveries."""
FOR_EVER = 1_000_000_000
"""As a delivery limit: RabbitMQ 4 has one of 20 where none is set, and drops what has no dead-letter exchange."""
TELL = "webhook.tell"
"""The routing key of a webhook begins so; its queue, its type and the levels of the ladder follow."""
WAITING = (JobScheduled.fact, JobRetrying.fact, JobPostponed.fact)
"""What goes into the delay ladder, and from there to its work queue."""
PROGRESS_LENGTH = 10_000
CONTROL_LENGTH = 10_000


@dataclass(frozen=True, kw_only=True)
class Exchange:
    name: str
    kind: Literal["topic", "fanout"]
    #: What flows into it from other exchanges.
    bindings: tuple["Binding", ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Binding:
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
        """Whether the broker itself moves what is rejected to the parked queue."""
        return "x-dead-letter-exchange" in dict(self.arguments)


def _arguments(**arguments: str | int) -> Arguments:
    return tuple((f"x-{name.replace('_', '-')}", value) for name, value in arguments.items())


SHEDS = _arguments(queue_type="quorum", max_length=PROGRESS_LENGTH, overflow="drop-head", delivery_limit=FOR_EVER)
"""Bounded, and drops its oldest; replicated all the same, for a classic queue goes away with its node, and the tracker
could not read it until that is back (ADR 11)."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The exchanges and queues of one deployment; the namespace lets several share a broker."""

    namespace: str = "milepost"
    #: How long the log keeps lifecycle events.
    log_for: timedelta = timedelta(days=7)
    #: How often a job whose worker died is delivered again.
    delivery_limit: int = DELIVERY_LIMIT

    def _name(self, what: str) -> str:
        return f"{self.namespace}.{what}"

    @cached_property
    def jobs(self) -> Exchange:
        return Exchange(name=self._name("jobs"), kind="topic")

    @cached_property
    def fleet(self) -> Exchange:
        return Exchange(name=self._name("fleet"), kind="topic")

    @cached_property
    def dead(self) -> Exchange:
        return Exchange(name=self._name("dead"), kind="fanout")

    @cached_property
    def poison(self) -> Exchange:
        return Exchange(name=self._name("poison"), kind="fanout")

    @cached_property
    def retold(self) -> Exchange:
        """What is said again, for the log alone."""
        return Exchange(name=self._name("retold"), kind="fanout")

    @cached_property
    def webhooks(self) -> Exchange:
        """Webhooks on their way: for now, or after a while in the ladder."""
        return Exchange(name=self._name("webhooks"), kind="topic")

    @cached_property
    def due(self) -> Exchange:
        """Where a message arrives that has waited its time, or had none to wait."""
        return Exchange(name=self._name("due"), kind="topic", bindings=(self._rung(0, "0"),))

    @cached_property
    def control(self) -> Exchange:
        """What all processors hear at once."""
        return Exchange(
            name=self._name("control"),
            kind="fanout",
            bindings=(Binding(exchange=self.jobs, key=f"{CancelRequested.fact}.#"),),
        )

    def _replicated(self, dead_letter_exchange: str, **more: str | int) -> Arguments:
        """A quorum queue that hands on what it gives up, at least once."""
        return _arguments(
            queue_type="quorum",
            dead_letter_exchange=dead_letter_exchange,
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
            **more,
        )

    # The delay ladder.

    def _rung(self, level: int, bit: str) -> Binding:
        """What a level's exchange does with messages that have this bit at its place."""
        words = ["*"] * (4 + LEVELS - 1 - level) + [bit, "#"]
        return Binding(exchange=Exchange(name=self._name(f"delay.{level:02d}"), kind="topic"), key=".".join(words))

    def delay_exchange(self, level: int) -> Exchange:
        """Sorts messages: those with this level's bit wait in its queue, the others go one level down."""
        if level == LEVELS - 1:
            waiting = (*WAITING, POSTPONED_IN_QUARANTINE)
            bindings = (
                *(Binding(exchange=self.jobs, key=f"{fact}.#") for fact in waiting),
                Binding(exchange=self.webhooks, key=f"{TELL}.#"),
            )
        else:
            bindings = (self._rung(level + 1, "0"),)
        return Exchange(name=self._name(f"delay.{level:02d}"), kind="topic", bindings=bindings)

    def delay_queue(self, level: int) -> Queue:
        """Holds messages for 2**level seconds, then hands them one level down."""
        after = self.delay_exchange(level - 1) if level else self.due
        return Queue(
            name=self._name(f"delay.{level:02d}"),
            bindings=(self._rung(level, "1"),),
            arguments=self._replicated(after.name, message_ttl=2**level * 1000, max_length=WORK_LENGTH),
        )

    @cached_property
    def ladder(self) -> tuple[Queue, ...]:
        return tuple(self.delay_queue(level) for level in range(LEVELS))

    # The queues of processors.

    def work_queue_name(self, queue: str) -> str:
        return self._name(f"work.{queue}")

    def work(self, queue: str) -> Queue:
        """Where jobs of one queue wait for a processor."""
        return Queue(
            name=self.work_queue_name(queue),
            bindings=(
                Binding(exchange=self.jobs, key=f"{JobSubmitted.fact}.{queue}.*"),
                Binding(exchange=self.jobs, key=f"{JobInterrupted.fact}.{queue}.*"),
                *(Binding(exchange=self.due, key=f"{fact}.{queue}.#") for fact in WAITING),
            ),
            arguments=self._replicated(self.dead.name, max_length=WORK_LENGTH, delivery_limit=self.delivery_limit),
        )

    def quarantine_queue_name(self, queue: str) -> str:
        return self._name(f"quarantine.{queue}")

    def quarantine(self, queue: str) -> Queue:
        """Where jobs wait that were given up once: each processor takes one of them at a time."""
        return Queue(
            name=self.quarantine_queue_name(queue),
            bindings=(
                Binding(exchange=self.jobs, key=f"{JobQuarantined.fact}.{queue}.*"),
                Binding(exchange=self.due, key=f"{POSTPONED_IN_QUARANTINE}.{queue}.#"),
            ),
            arguments=self._replicated(self.dead.name, max_length=WORK_LENGTH, delivery_limit=self.delivery_limit),
        )

    def control_queue(self, instance: str) -> Queue:
        """What one processor is told while it runs: lost with it, and bounded."""
        return Queue(
            name=self._name(f"control.{instance}"),
            bindings=(Binding(exchange=self.control, key=""),),
            arguments=_arguments(max_length=CONTROL_LENGTH, overflow="drop-head"),
            exclusive=True,
        )

    # The queues of the tracker.

    def _lifecycle_bindings(self) -> tuple[Binding, ...]:
        facts = [event.fact for event in JOB_EVENTS if event.lifecycle] + [wish.fact for wish in WISHES]
        return tuple(Binding(exchange=self.jobs, key=f"{fact}.#") for fact in facts)

    @cached_property
    def lifecycle(self) -> Queue:
        """Lifecycle events on their way into the status view."""
        return Queue(
            name=self._name("tracker.lifecycle"),
            bindings=self._lifecycle_bindings(),
            arguments=self._replicated(self.dead.name, max_length=10 * WORK_LENGTH, delivery_limit=FOR_EVER),
        )

    @cached_property
    def progress(self) -> Queue:
        """Progress on its way into the status view: bounded, drops its oldest (law 8)."""
        return Queue(
            name=self._name("tracker.progress"),
            bindings=(Binding(exchange=self.jobs, key=f"{JobProgressed.fact}.#"),),
            arguments=SHEDS,
        )

    @cached_property
    def webhook_queue(self) -> Queue:
        """Webhooks whose time has come. Not bounded: a tracker that can't put one here would stand still."""
        return Queue(
            name=self._name("tracker.webhooks"),
            bindings=(Binding(exchange=self.due, key=f"{TELL}.#"),),
            arguments=_arguments(queue_type="quorum", delivery_limit=FOR_EVER),
        )

    @cached_property
    def fleet_queue(self) -> Queue:
        """Announcements and beats of processors: bounded, drops its oldest."""
        return Queue(
            name=self._name("tracker.fleet"),
            bindings=(Binding(exchange=self.fleet, key="processor.#"),),
            arguments=SHEDS,
        )

    @cached_property
    def log(self) -> Queue:
        """Every lifecycle event for the retention time, to rebuild the view from (law 9)."""
        return Queue(
            name=self._name("log.jobs"),
            bindings=(*self._lifecycle_bindings(), Binding(exchange=self.retold, key="")),
            arguments=_arguments(queue_type="stream", max_age=f"{int(self.log_for.total_seconds())}s"),
        )

    @cached_property
    def parked(self) -> Queue:
        """What was dead-lettered, until the undertaker has looked at it. No TTL: nothing leaves it by itself."""
        return Queue(
            name=self._name("parked"),
            bindings=(Binding(exchange=self.dead, key=""),),
            arguments=_arguments(queue_type="quorum", delivery_limit=FOR_EVER),
        )

    @cached_property
    def poison_queue(self) -> Queue:
        """Messages that nobody could read, kept for people. No TTL, and nobody consumes it."""
        return Queue(
            name=self._name("poison"),
            bindings=(Binding(exchange=self.poison, key=""),),
            arguments=_arguments(queue_type="quorum", delivery_limit=FOR_EVER),
        )

    # What belongs together.

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges; each after those that flow into it."""
        rungs = tuple(self.delay_exchange(level) for level in reversed(range(LEVELS)))
        return (
            self.jobs,
            self.fleet,
            self.dead,
            self.poison,
            self.retold,
            self.control,
            self.webhooks,
            *rungs,
            self.due,
        )

    @cached_property
    def shared_queues(self) -> tuple[Queue, ...]:
        """The queues that exist once in a deployment."""
        own = (self.parked, self.poison_queue, self.lifecycle, self.progress, self.fleet_queue, self.log)
        return (*own, self.webhook_queue, *self.ladder)

    def work_queues(self, queues: Iterable[str]) -> tuple[Queue, ...]:
        """What the processors of these queues consume."""
        names = sorted(set(queues))
        return (*(self.work(name) for name in names), *(self.quarantine(name) for name in names))

    def accepting(self, queue: str, level: int | None = None) -> tuple[Queue, ...]:
        """The queues that must all exist before a job of this queue may be accepted, or waits on a level (law 1)."""
        waiting = () if level is None else (self.delay_queue(level),)
        return (*waiting, self.work(queue), self.lifecycle, self.log)
