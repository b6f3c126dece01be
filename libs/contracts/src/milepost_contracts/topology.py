"""Everything that exists at the broker, as values. `milepost_rabbit.declare` is the one place that declares it.

milepost.jobs   topic    job.<event>.<queue>.<type> → work.<queue>, tracker.lifecycle, tracker.progress, log.jobs
milepost.fleet  topic    processor.<event>          → tracker.fleet
milepost.dead   fanout   what nobody could take     → parked
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from milepost_contracts.events import JOB_EVENTS, CancelRequested

#: Name and value of each, as the broker calls them.
Arguments = tuple[tuple[str, str | int], ...]

WORK_LENGTH = 1_000_000
"""How many jobs may wait in one queue before the broker refuses more, and the gateway answers 503."""
DELIVERY_LIMIT = 3
"""How often a job whose worker died is delivered again before it is parked."""
PROGRESS_LENGTH = 10_000


@dataclass(frozen=True, kw_only=True)
class Exchange:
    name: str
    kind: Literal["topic", "fanout"]


@dataclass(frozen=True, kw_only=True)
class Binding:
    exchange: Exchange
    key: str


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A durable queue and what is bound to it."""

    name: str
    bindings: tuple[Binding, ...]
    arguments: Arguments = ()

    @property
    def dead_letters(self) -> bool:
        """Whether the broker itself moves what is rejected to the parked queue."""
        return "x-dead-letter-exchange" in dict(self.arguments)


def _arguments(**arguments: str | int) -> Arguments:
    return tuple((f"x-{name.replace('_', '-')}", value) for name, value in arguments.items())


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The exchanges and queues of one deployment; the namespace lets several share a broker."""

    namespace: str = "milepost"
    #: How long the log keeps lifecycle events.
    log_for: timedelta = timedelta(days=7)

    def _name(self, what: str) -> str:
        return f"{self.namespace}.{what}"

    @property
    def jobs(self) -> Exchange:
        return Exchange(name=self._name("jobs"), kind="topic")

    @property
    def fleet(self) -> Exchange:
        return Exchange(name=self._name("fleet"), kind="topic")

    @property
    def dead(self) -> Exchange:
        return Exchange(name=self._name("dead"), kind="fanout")

    def _replicated(self, **more: str | int) -> Arguments:
        """A quorum queue that hands what it gives up on to `dead`, at least once."""
        return _arguments(
            queue_type="quorum",
            dead_letter_exchange=self.dead.name,
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
            **more,
        )

    def work_queue_name(self, queue: str) -> str:
        return self._name(f"work.{queue}")

    def work(self, queue: str) -> Queue:
        """Where jobs of one queue wait for a processor."""
        return Queue(
            name=self.work_queue_name(queue),
            bindings=(Binding(exchange=self.jobs, key=f"job.submitted.{queue}.*"),),
            arguments=self._replicated(max_length=WORK_LENGTH, delivery_limit=DELIVERY_LIMIT),
        )

    def _lifecycle_bindings(self) -> tuple[Binding, ...]:
        facts = [event.fact for event in JOB_EVENTS if event.lifecycle] + [CancelRequested.fact]
        return tuple(Binding(exchange=self.jobs, key=f"{fact}.#") for fact in facts)

    @property
    def lifecycle(self) -> Queue:
        """Lifecycle events on their way into the status view."""
        return Queue(
            name=self._name("tracker.lifecycle"),
            bindings=self._lifecycle_bindings(),
            arguments=self._replicated(max_length=10 * WORK_LENGTH),
        )

    @property
    def progress(self) -> Queue:
        """Progress on its way into the status view: bounded, drops its oldest (law 8)."""
        return Queue(
            name=self._name("tracker.progress"),
            bindings=(Binding(exchange=self.jobs, key="job.progressed.#"),),
            arguments=_arguments(max_length=PROGRESS_LENGTH, overflow="drop-head"),
        )

    @property
    def fleet_queue(self) -> Queue:
        """Announcements and beats of processors: bounded, drops its oldest."""
        return Queue(
            name=self._name("tracker.fleet"),
            bindings=(Binding(exchange=self.fleet, key="processor.#"),),
            arguments=_arguments(max_length=PROGRESS_LENGTH, overflow="drop-head"),
        )

    @property
    def log(self) -> Queue:
        """Every lifecycle event for the retention time, to rebuild the view from (law 9)."""
        return Queue(
            name=self._name("log.jobs"),
            bindings=self._lifecycle_bindings(),
            arguments=_arguments(queue_type="stream", max_age=f"{int(self.log_for.total_seconds())}s"),
        )

    @property
    def parked(self) -> Queue:
        """What was dead-lettered. No TTL: nothing leaves it by itself."""
        return Queue(
            name=self._name("parked"),
            bindings=(Binding(exchange=self.dead, key=""),),
            arguments=_arguments(queue_type="quorum"),
        )

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return (self.jobs, self.fleet, self.dead)

    @property
    def shared_queues(self) -> tuple[Queue, ...]:
        """The queues that exist once in a deployment."""
        return (self.parked, self.lifecycle, self.progress, self.fleet_queue, self.log)

    def work_queues(self, queues: Iterable[str]) -> tuple[Queue, ...]:
        return tuple(self.work(queue) for queue in sorted(set(queues)))

    def accepting(self, queue: str) -> tuple[Queue, ...]:
        """The queues that must all exist before a job of this queue may be accepted (law 1)."""
        return (self.work(queue), self.lifecycle, self.log)
