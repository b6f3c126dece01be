"""A row of the matrix: a fault, how it is caused, and what it may do."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from fault_suite.cluster import Cluster
from fault_suite.executions import Executions
from fault_suite.ledger import ENDED, Ledger, Submitted
from fault_suite.load import Load
from fault_suite.proof import Proof


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Rate of the load, and durations."""

    #: Submissions per second.
    rate: float
    #: Seconds of load before the fault and after it.
    before: float
    #: Factor for the durations of faults: 1 for the full length.
    scale: float
    #: Duration of the slow jobs, in milliseconds.
    slow: int
    #: Seed of random faults.
    seed: int = 1
    #: Factor for the allowed times of recoveries and answers. The full matrix allows no more than promised; the short
    #: form runs beside other tests, on busy cores.
    lenience: float = 1.0
    #: Seconds until the cluster must be idle after a fault. Delayed messages may wait for minutes more: RabbitMQ 3.10's
    #: dead-lettering worker retries a queue with a new leader up to five times, a minute each.
    idle_timeout: float = 330.0

    def seconds(self, full: float) -> float:
        """Scale the length of a fault."""
        return full * self.scale

    def times(self, full: int) -> int:
        """Scale a number of repetitions; at least two."""
        return max(2, round(full * self.scale))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an act finds: a cluster under load."""

    cluster: Cluster
    load: Load
    ledger: Ledger
    http: httpx.Client
    pace: Pace
    #: Where the handlers' records of this run begin in their file.
    begun_at: int
    #: How many services had been restarted before this run.
    restarts_before: int
    #: What was wrong while the fault held: one sentence each.
    violations: list[str] = field(default_factory=list)

    @property
    def restarts(self) -> int:
        """How many services ended by themselves, and were restarted, in this run."""
        return self.cluster.restarts.total() - self.restarts_before

    def executions(self) -> Executions:
        """Read what the handlers recorded in this run."""
        return Executions.read(self.cluster.ledger, self.begun_at)

    def require(self, held: bool, violation: str) -> None:
        """Record a violation unless this held."""
        if not held:
            self.violations.append(violation)

    def sleep(self, full: float) -> None:
        """Sleep for the scaled number of seconds."""
        time.sleep(self.pace.seconds(full))

    @contextmanager
    def lasting(self, full: float) -> Iterator[None]:
        """Let the block last the scaled number of seconds at least, whatever its probes take."""
        ends = time.monotonic() + self.pace.seconds(full)
        yield
        time.sleep(max(0.0, ends - time.monotonic()))

    def submit(self, count: int, behave: str = "well", milliseconds: int = 5, **fields: object) -> list[Submitted]:
        """Submit jobs beside the load until so many were accepted within 20 seconds, and return those."""
        made: list[Submitted] = []
        deadline = time.monotonic() + 20
        while len(made) < count and time.monotonic() < deadline:
            submitted = self.load.submit(self.http, behave, milliseconds, fields=fields)
            made += [submitted] if submitted.accepted else []
        self.require(len(made) == count, f"only {len(made)} of {count} more jobs were accepted within 20 s")
        return made

    def cancel(self, jobs: list[Submitted]) -> None:
        """Request the cancel of jobs."""
        for submitted in jobs:
            self.load.cancel(self.http, submitted)

    def document(self, submitted: Submitted) -> dict[str, object]:
        """Read a job; nothing if no gateway answers."""
        return self.load.get(self.http, submitted, self.cluster.urls()[0]) or {}

    def started(self, jobs: Sequence[Submitted]) -> int:
        """Return how many of these jobs a handler has started."""
        starts = self.executions().starts
        return sum(starts[one.nonce] > 0 for one in jobs)

    def all_end(self, jobs: Sequence[Submitted], *, within: float) -> None:
        """Wait until jobs have ended; it is a violation if they do not in time."""
        waiting = list(jobs)

        def ended() -> int:
            waiting[:] = [one for one in waiting if self.document(one).get("status") not in ENDED]
            return len(jobs) - len(waiting)

        wait_for(ended, within=within * self.pace.lenience, at_least=len(jobs))
        self.require(not waiting, f"{len(waiting)} of {len(jobs)} jobs had not ended after {within:.0f} s")


def wait_for(count: Callable[[], int], *, within: float, at_least: int = 1) -> int:
    """Count again until the number is reached or the time is up; return the last number."""
    deadline = time.monotonic() + within
    while (counted := count()) < at_least and time.monotonic() < deadline:
        time.sleep(0.2)
    return counted


Act = Callable[[Scene], Proof]
"""Causes the fault, and returns the proof that it took hold."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row of the matrix."""

    name: str
    act: Act
    #: Whether it is part of `make test`, in a short form.
    star: bool = False
    #: The behaviours of the first jobs.
    first: tuple[str, ...] = ()
    #: Whether submissions may be answered late, as when the gateway itself is frozen.
    may_be_late: bool = False
    #: Seconds allowed for the recovery.
    recovers_within: float = 10.0
    #: Longest time in seconds without an accepted job, if it must be shorter than the fault.
    max_gap: float | None = None
    #: How many unexpected extra executions are allowed.
    max_extra_runs: int = 0
    #: How many submissions may be refused, if the fault is none of the gateway's business.
    max_refused: int | None = None
    #: Whether jobs may end as lost, because the fault itself destroys their messages.
    may_lose: bool = False
    #: `expires_in` of the jobs, in seconds, if not the default.
    expires_in: int | None = None
    #: Whether webhooks may be missing, because the fault keeps events from the trackers; the view has the log.
    may_miss_webhooks: bool = False
    #: Whether no job fails, is slow or canceled: the test is too short to wait for one that is retried or requeued.
    only_quick_successes: bool = False
    #: Why the row fails for now; nothing if it must pass.
    known_failure: str | None = None
    #: Seconds for which ended jobs are kept, if that is so short that they are gone before all is checked.
    retention: float | None = None
