"""Starts the worker: an actor for each job type, a consumer for each queue and its quarantine, and the threads."""

import logging
from collections.abc import Callable
from datetime import timedelta

from dramatiq.actor import Actor
from dramatiq.message import set_encoder

from milepost_contracts.messages.job_events import Command
from milepost_contracts.messages.topology import Topology
from milepost_processor.adapters.dramatiq.broker import CommandBroker, CommandWorker
from milepost_processor.adapters.dramatiq.encoder import EnvelopeEncoder
from milepost_processor.adapters.os_process import restore_streams
from milepost_processor.core.handlers import Handlers
from milepost_processor.core.runner import Delivery
from milepost_processor.errors import DeliveredTooOften, Stopping

POLL_INTERVAL = timedelta(milliseconds=500)


def start_worker(
    broker: CommandBroker,
    execute: Callable[[Command, Delivery], None],
    *,
    handlers: Handlers,
    topology: Topology,
    threads: int,
) -> CommandWorker:
    """Consume the queues of the handlers, and call `execute` for each job on one of the threads."""
    set_encoder(EnvelopeEncoder(topology))
    logging.getLogger(__name__).setLevel(logging.WARNING)  # actors log each message there

    def act(command: Command, delivery: Delivery) -> None:
        restore_streams()
        execute(command, delivery)

    for definition in handlers.definitions.values():
        Actor(
            act,
            broker=broker,
            actor_name=definition.type,
            queue_name=topology.work_queue_name(definition.queue),
            priority=0,
            options={"throws": (Stopping, DeliveredTooOften)},
        )
    for queue in handlers.queues:
        broker.declare_queue(topology.quarantine_queue_name(queue))
    worker = CommandWorker(broker, worker_threads=threads, worker_timeout=int(POLL_INTERVAL.total_seconds() * 1000))
    worker.start()
    return worker


def held(worker: CommandWorker) -> int:
    """Return how many deliveries are not acknowledged yet."""
    return sum(len(getattr(thread.consumer, "known_tags", ())) for thread in worker.consumers.values())


def consumed(worker: CommandWorker, topology: Topology, handlers: Handlers) -> frozenset[str]:
    """Return the job queues that are consumed, together with their quarantine; none while the worker stops."""
    if worker.broker.stopping:
        return frozenset()
    missing = worker.broker.not_consumed
    names = (topology.work_queue_name, topology.quarantine_queue_name)
    return frozenset(queue for queue in handlers.queues if not any(name(queue) in missing for name in names))
