"""The bindings of the topology before ADR 32, which `milepost_rabbit.declare` removes: else messages arrive twice.

The queues `delay.NN` stay, and lead what still waits in them through the exchange `due` to its queue. Delete this
module with the first version that is not upgraded to from one of before.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from milepost_contracts.messages.delay_levels import LEVELS
from milepost_contracts.messages.job_events import (
    JOB_EVENTS,
    POSTPONED_IN_QUARANTINE,
    REQUESTS,
    CancelRequested,
    JobInterrupted,
    JobProgressed,
    JobQuarantined,
    JobSubmitted,
)
from milepost_contracts.messages.topology import WAITING, WEBHOOK_KEY, Topology


class FormerBinding(NamedTuple):
    """A binding that is not in the topology any more."""

    #: Name of the queue or exchange that it leads to.
    to: str
    to_queue: bool
    exchange: str
    key: str


def former_bindings(topology: Topology) -> tuple[FormerBinding, ...]:
    """Return those of what exists once in a deployment."""
    return (*_of_exchanges(topology), *_of_shared_queues(topology))


def former_work_bindings(topology: Topology, queues: Iterable[str]) -> tuple[FormerBinding, ...]:
    """Return those of the queues of these job queues."""
    return tuple(one for queue in queues for one in _of_work_queues(topology, queue))


def _of_exchanges(topology: Topology) -> Iterator[FormerBinding]:
    jobs, top = topology.jobs.name, f"{topology.namespace}.delay.{LEVELS - 1:02d}"
    yield FormerBinding(topology.control.name, False, jobs, f"{CancelRequested.fact}.#")
    for fact in (*WAITING, POSTPONED_IN_QUARANTINE):
        yield FormerBinding(top, False, jobs, f"{fact}.#")
    yield FormerBinding(top, False, topology.webhooks.name, f"{WEBHOOK_KEY}.#")


def _of_shared_queues(topology: Topology) -> Iterator[FormerBinding]:
    jobs = topology.jobs.name
    facts = [event.fact for event in JOB_EVENTS if event.lifecycle] + [request.fact for request in REQUESTS]
    for queue in (topology.lifecycle, topology.log):
        yield from (FormerBinding(queue.name, True, jobs, f"{fact}.#") for fact in facts)
    yield FormerBinding(topology.progress.name, True, jobs, f"{JobProgressed.fact}.#")
    yield FormerBinding(topology.worker_queue.name, True, topology.workers.name, "processor.#")


def _of_work_queues(topology: Topology, queue: str) -> Iterator[FormerBinding]:
    jobs = topology.jobs.name
    for fact in (JobSubmitted.fact, JobInterrupted.fact):
        yield FormerBinding(topology.work_queue_name(queue), True, jobs, f"{fact}.{queue}.*")
    yield FormerBinding(topology.quarantine_queue_name(queue), True, jobs, f"{JobQuarantined.fact}.{queue}.*")
