"""Everything that exists at the broker, as values. `milepost_rabbit.declare` is the one place that declares it.

Other teams bind queues of their own to the first two exchanges, which Milepost publishes to:

milepost.jobs         topic    job.<event>.<queue>.<type> → milepost.internal
milepost.workers      topic    processor.<event>          → milepost.internal

Only Milepost's own queues hang on the others:

milepost.internal     topic    all of both                → tracker.lifecycle, log.jobs, tracker.progress,
                               tracker.workers, and the exchanges below
milepost.submitted    topic    jobs that are to run now   → work.<queue>, or milepost.entry
milepost.level.NN     topic    job.<event>.<queue>.<type>.<bits> → level.NN, or the next lower level
milepost.webhooks     topic    webhook.send.<queue>.<type>.<bits> → the delay levels
milepost.entry        topic    what has waited, what was put back → entry.<queue>, tracker.webhooks
milepost.commands     topic    what leaves entry.<queue>  → work.<queue>, quarantine.<queue>
milepost.control      fanout   cancel requests            → a queue of each processor, which the broker names
milepost.unrouted     fanout   what has no queue          → unrouted, for the tracker
milepost.dead-letters fanout   dead letters               → dead-letters, for the tracker
milepost.poison       fanout   unreadable messages        → poison, kept for operators
milepost.republished  fanout   events that the log would drop → log.jobs

ADR 32 explains why.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from milepost_contracts.messages.broker_objects import Arguments, Binding, Exchange, Queue, arguments
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
WORKER_KEY = "processor"
"""The first word of the routing keys of announcements and heartbeats."""
WAITING = (JobScheduled.fact, JobRetrying.fact, JobPostponed.fact)
"""Facts that wait in the delay levels, and go to their work queue from there."""
PUT_BACK = (JobInterrupted.fact, JobQuarantined.fact)
"""Facts whose job goes back to its work or quarantine queue at once. They pass the entry queue, which never refuses."""
RUNNABLE = (JobSubmitted.fact, JobInterrupted.fact, *WAITING)
"""Facts that lead from the entry queue to the work queue."""
LOG_MAX_BYTES = 10 * 1024**3
PROGRESS_LENGTH = 10_000
CONTROL_LENGTH = 10_000
DROP_OLDEST = arguments(queue_type="quorum", max_length=PROGRESS_LENGTH, overflow="drop-head", delivery_limit=UNLIMITED)
"""A bounded queue that drops its oldest message. Replicated: a classic queue is gone while its node is (ADR 11)."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The exchanges and queues of one deployment; the namespace lets several share a broker."""

    namespace: str = "milepost"
    #: How long the log keeps lifecycle events.
    log_retention: timedelta = timedelta(days=7)
    #: How large the log may become, in bytes, before it drops its oldest events; 0 means without a limit.
    log_max_bytes: int = LOG_MAX_BYTES
    #: How often a job whose worker died is delivered again.
    delivery_limit: int = DELIVERY_LIMIT

    def _name(self, what: str) -> str:
        return f"{self.namespace}.{what}"

    @cached_property
    def jobs(self) -> Exchange:
        """Every event of a job, for Milepost and for other teams."""
        return Exchange(name=self._name("jobs"), kind="topic", private=self._name("internal"))

    @cached_property
    def workers(self) -> Exchange:
        """Announcements and heartbeats, for Milepost and for other teams."""
        return Exchange(name=self._name("workers"), kind="topic", private=self._name("internal"))

    @cached_property
    def internal(self) -> Exchange:
        """The same, for Milepost's own queues alone: another team's full queue can't refuse what is published here."""
        return Exchange(
            name=self._name("internal"),
            kind="topic",
            alternate=self.unrouted.name,
            bindings=(Binding(exchange=self.jobs, key="#"), Binding(exchange=self.workers, key="#")),
        )

    @cached_property
    def unrouted(self) -> Exchange:
        """Messages whose queue does not exist."""
        return Exchange(name=self._name("unrouted"), kind="fanout")

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
    def submitted(self) -> Exchange:
        """Jobs that are to run now. Without a work queue they wait in the entry queue."""
        return Exchange(
            name=self._name("submitted"),
            kind="topic",
            alternate=self.entry.name,
            bindings=(Binding(exchange=self.internal, key=f"{JobSubmitted.fact}.#"),),
        )

    @cached_property
    def entry(self) -> Exchange:
        """Messages whose delay is over or that have none, and jobs that were put back."""
        return Exchange(
            name=self._name("entry"),
            kind="topic",
            alternate=self.unrouted.name,
            bindings=(
                self._level_binding(0, "0"),
                *(Binding(exchange=self.internal, key=f"{fact}.#") for fact in PUT_BACK),
            ),
        )

    @cached_property
    def commands(self) -> Exchange:
        """Jobs that leave their entry queue. What no queue takes stays there, so there is no alternate exchange."""
        return Exchange(name=self._name("commands"), kind="topic")

    @cached_property
    def control(self) -> Exchange:
        """Cancel requests, for all processors."""
        return Exchange(
            name=self._name("control"),
            kind="fanout",
            bindings=(Binding(exchange=self.internal, key=f"{CancelRequested.fact}.#"),),
        )

    def _replicated(self, dead_letter_exchange: str, **more: str | int) -> Arguments:
        """Return the arguments of a quorum queue that dead-letters at least once."""
        return arguments(
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
        return Binding(exchange=Exchange(name=self._level(level), kind="topic"), key=".".join(words))

    def _level(self, level: int) -> str:
        return self._name(f"level.{level:02d}")

    def delay_exchange(self, level: int) -> Exchange:
        """Routes messages with this level's bit to its queue, the others to the next lower level."""
        if level == LEVELS - 1:
            waiting = (*WAITING, POSTPONED_IN_QUARANTINE)
            bindings = (
                *(Binding(exchange=self.internal, key=f"{fact}.#") for fact in waiting),
                Binding(exchange=self.webhooks, key=f"{WEBHOOK_KEY}.#"),
            )
        else:
            bindings = (self._level_binding(level + 1, "0"),)
        return Exchange(name=self._level(level), kind="topic", alternate=self.unrouted.name, bindings=bindings)

    def delay_queue(self, level: int) -> Queue:
        """Holds messages for 2**level seconds, then passes them to the next lower level."""
        after = self.delay_exchange(level - 1) if level else self.entry
        return Queue(
            name=self._level(level),
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
                Binding(exchange=self.submitted, key=f"{JobSubmitted.fact}.{queue}.*"),
                *(Binding(exchange=self.commands, key=f"{fact}.{queue}.#") for fact in RUNNABLE),
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
                Binding(exchange=self.commands, key=f"{JobQuarantined.fact}.{queue}.#"),
                Binding(exchange=self.commands, key=f"{POSTPONED_IN_QUARANTINE}.{queue}.#"),
            ),
            arguments=self._replicated(
                self.dead_letters.name, max_length=MAX_QUEUE_LENGTH, delivery_limit=self.delivery_limit
            ),
        )

    def entry_queue(self, queue: str) -> Queue:
        """Jobs of one queue on their way to its work or quarantine queue; they wait here while that is full or missing.

        Not bounded, so nothing waits in the delay levels, which all queues share, for one queue.
        """
        return Queue(
            name=self._name(f"entry.{queue}"),
            bindings=(Binding(exchange=self.entry, key=f"job.*.{queue}.#"),),
            arguments=self._replicated(self.commands.name, message_ttl=0),
        )

    @cached_property
    def control_queue(self) -> Queue:
        """Cancel requests for one processor: named by the broker, bounded, and deleted with its connection."""
        return Queue(
            name="",
            bindings=(Binding(exchange=self.control, key=""),),
            arguments=arguments(max_length=CONTROL_LENGTH, overflow="drop-head"),
            exclusive=True,
        )

    # The queues of the tracker.

    def _lifecycle_bindings(self) -> tuple[Binding, ...]:
        facts = [event.fact for event in JOB_EVENTS if event.lifecycle] + [request.fact for request in REQUESTS]
        return tuple(Binding(exchange=self.internal, key=f"{fact}.#") for fact in facts)

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
            bindings=(Binding(exchange=self.internal, key=f"{JobProgressed.fact}.#"),),
            arguments=DROP_OLDEST,
        )

    @cached_property
    def webhook_queue(self) -> Queue:
        """Webhooks that are due. Not bounded: a tracker that could not publish one would stop projecting."""
        return Queue(
            name=self._name("tracker.webhooks"),
            bindings=(Binding(exchange=self.entry, key=f"{WEBHOOK_KEY}.#"),),
            arguments=arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    @cached_property
    def worker_queue(self) -> Queue:
        """Announcements and heartbeats of processors: bounded, drops its oldest message."""
        return Queue(
            name=self._name("tracker.workers"),
            bindings=(Binding(exchange=self.internal, key=f"{WORKER_KEY}.#"),),
            arguments=DROP_OLDEST,
        )

    @cached_property
    def log(self) -> Queue:
        """Every lifecycle event of the retention, to rebuild the view from (law 9)."""
        limit = {"max_length_bytes": self.log_max_bytes} if self.log_max_bytes else {}
        return Queue(
            name=self._name("log.jobs"),
            bindings=(*self._lifecycle_bindings(), Binding(exchange=self.republished, key="")),
            arguments=arguments(queue_type="stream", max_age=f"{int(self.log_retention.total_seconds())}s", **limit),
        )

    @cached_property
    def dead_letter_queue(self) -> Queue:
        """Dead letters, until the tracker has handled them. No TTL: a message leaves it by acknowledgement only."""
        return Queue(
            name=self._name("dead-letters"),
            bindings=(Binding(exchange=self.dead_letters, key=""),),
            arguments=arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    @cached_property
    def poison_queue(self) -> Queue:
        """Unreadable messages, kept for operators. No TTL, and no consumer."""
        return Queue(
            name=self._name("poison"),
            bindings=(Binding(exchange=self.poison, key=""),),
            arguments=arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    @cached_property
    def unrouted_queue(self) -> Queue:
        """Messages whose queue does not exist, until the tracker has declared it and published them again."""
        return Queue(
            name=self._name("unrouted"),
            bindings=(Binding(exchange=self.unrouted, key=""),),
            arguments=arguments(queue_type="quorum", delivery_limit=UNLIMITED),
        )

    # Groups.

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges; each after those that feed it."""
        level_exchanges = tuple(self.delay_exchange(level) for level in reversed(range(LEVELS)))
        return (
            self.jobs,
            self.workers,
            self.unrouted,
            self.internal,
            self.dead_letters,
            self.poison,
            self.republished,
            self.commands,
            self.control,
            self.webhooks,
            *level_exchanges,
            self.entry,
            self.submitted,
        )

    @cached_property
    def shared_queues(self) -> tuple[Queue, ...]:
        """The queues that exist once in a deployment."""
        own = (self.dead_letter_queue, self.poison_queue, self.lifecycle, self.progress, self.worker_queue, self.log)
        return (*own, self.webhook_queue, self.unrouted_queue, *self.delay_queues)

    def work_queues(self, queues: Iterable[str]) -> tuple[Queue, ...]:
        """The queues of these job queues: entry, quarantine and work queues, in the order in which they are declared.

        A processor waits for the latter two only.
        """
        names = sorted(set(queues))
        kinds = (self.entry_queue, self.quarantine, self.work)
        return tuple(kind(name) for kind in kinds for name in names)

    def accepting(self, queue: str, level: int | None = None) -> tuple[Queue, ...]:
        """The queues that the message of a job goes to: at once, or first to a delay level (law 1)."""
        return (self.work(queue) if level is None else self.delay_queue(level), self.lifecycle, self.log)
