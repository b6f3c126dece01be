"""The composition root: builds the processor from its settings and runs it until it is told to stop."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import timedelta
from secrets import token_hex
from typing import Any

import structlog
from dramatiq import Worker
from dramatiq.actor import Actor
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.message import set_encoder
from dramatiq.threading import raise_thread_exception
from redis import Redis

from milepost_contracts.envelope import now
from milepost_contracts.keys import Keys
from milepost_contracts.topology import Topology
from milepost_processor.beacon import Beacon
from milepost_processor.broker import CommandBroker, CommandWorker, Consuming, connection_url
from milepost_processor.control import ControlListener
from milepost_processor.courier import Courier
from milepost_processor.encoder import EnvelopeEncoder
from milepost_processor.errors import DeliveredTooOften, Forced, Stopping
from milepost_processor.executor import Executor
from milepost_processor.files import BlobFiles
from milepost_processor.gate import RedisGate
from milepost_processor.limits import check_consumer_timeout, needed_timeout
from milepost_processor.overseer import Overseer
from milepost_processor.registry import Registry
from milepost_processor.settings import ProcessorSettings
from milepost_processor.waits import Waits
from milepost_service import collector
from milepost_service.health import HealthServer
from milepost_service.settings import SettingsError

log = structlog.get_logger(__name__)

WORKER_WAKES_EVERY = timedelta(milliseconds=500)
AFTER_INTERRUPT = timedelta(seconds=5)
"""How long interrupted handlers get to notice, before the process ends with them."""


def run(settings: ProcessorSettings, registry: Registry) -> int:
    """Run jobs until SIGTERM or SIGINT; return the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    instance = f"{socket.gethostname()}-{os.getpid()}-{token_hex(2)}"
    url, keys, topology = str(settings.rabbitmq_url), Keys(namespace=settings.namespace), _topology(settings)
    redis = Redis.from_url(str(settings.redis_url), socket_timeout=2, socket_connect_timeout=2)
    gate = RedisGate(redis, keys, retention=settings.retention)
    courier = Courier(url, topology, registry.queues, heartbeat=settings.heartbeat)
    waits = Waits()
    executor = Executor(
        registry,
        gate=gate,
        outbox=courier,
        files=BlobFiles(settings.blobs_url, namespace=settings.namespace),
        run_async=_run_async,
        instance=instance,
        gate_patience=settings.gate_patience,
        delivery_limit=settings.delivery_limit,
        waits=waits,
    )
    overseer = Overseer(executor.running, gate=gate, grace=settings.cancel_grace, raise_in=_raise_in)
    control = ControlListener(
        url, topology, instance, cancel=executor.cancel, heartbeat=int(settings.heartbeat.total_seconds())
    )
    receiving = threading.Event()
    health = HealthServer(
        host=settings.health_host,
        port=settings.health_port,
        unready=lambda: _unready(courier, receiving),
    )
    courier.start()
    while not (courier.wait_up(0.5) or courier.broken or stop.is_set()):
        log.info("waiting_for_rabbitmq")
    problem = courier.broken or _contradiction(courier, registry, settings)
    if problem:
        courier.close()
        health.close()
        raise SettingsError(problem)
    worker = _create_worker(settings, topology, registry, executor, courier)
    beacon = Beacon(
        registry,
        instance=instance,
        threads=settings.threads,
        started_at=now(),
        running=executor.running_jobs,
        held=lambda: _held(worker),
        waits=waits.lately,
    )
    overseer.start()
    courier.keep(beacon.shine(courier.announce))
    courier.keep(control.listen())
    collector.spare()
    receiving.set()
    log.info("processor_started", instance=instance, types=sorted(registry.definitions), threads=settings.threads)

    healthy = _healthy_until(stop, worker, overseer, courier)
    _drain(worker, executor, settings)
    overseer.close()
    courier.spawn(beacon.go_out(courier.announce)).result()
    courier.close()
    health.close()
    log.info("processor_stopped", instance=instance)
    return 0 if healthy else 1


def _healthy_until(stop: threading.Event, worker: Worker, overseer: Overseer, courier: Courier) -> bool:
    """Return once the process is to stop, or can't go on; and whether it could."""
    healthy = True
    while healthy and not stop.wait(WORKER_WAKES_EVERY.total_seconds()):
        alive = all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))
        loop = get_event_loop_thread()
        healthy = alive and overseer.is_alive and loop is not None and loop.is_alive() and courier.broken is None
    if not healthy:
        why = courier.broken or "a worker, consumer, overseer or event loop thread ended by itself"
        log.critical("can_not_go_on", why=why, detail="the process ends, for another one to be started")
    return healthy


def _topology(settings: ProcessorSettings) -> Topology:
    return Topology(namespace=settings.namespace, log_for=settings.retention, delivery_limit=settings.delivery_limit)


def _unready(courier: Courier, receiving: threading.Event) -> list[str]:
    """Name what is missing; connected is not enough, for a processor may still refuse to start."""
    if not courier.is_up:
        return ["rabbitmq"]
    return [] if receiving.is_set() else ["worker"]


def _contradiction(courier: Courier, registry: Registry, settings: ProcessorSettings) -> str | None:
    if not courier.broker_version:
        return None
    return check_consumer_timeout(
        registry, _after_the_limit(settings), said=settings.consumer_timeout, version=courier.broker_version
    )


def _after_the_limit(settings: ProcessorSettings) -> timedelta:
    """How long a delivery may stay un-acknowledged beside its job's own time."""
    return settings.gate_patience + settings.cancel_grace + settings.drain_timeout


def _run_async(coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
    thread = get_event_loop_thread()
    if thread is None:
        raise RuntimeError("the event loop of Dramatiq's AsyncIO middleware is not running")
    return asyncio.run_coroutine_threadsafe(coroutine, thread.loop)


def _raise_in(thread_id: int) -> None:
    raise_thread_exception(thread_id, Forced)  # type: ignore[no-untyped-call]


def _create_worker(
    settings: ProcessorSettings, topology: Topology, registry: Registry, executor: Executor, courier: Courier
) -> Worker:
    set_encoder(EnvelopeEncoder(topology))
    quarantines = {topology.quarantine_queue_name(queue) for queue in registry.queues}
    consuming = Consuming(
        timeout=needed_timeout(registry, _after_the_limit(settings)),
        one_at_a_time=frozenset(quarantines),
        queue_missing=courier.declare_again,
    )
    broker = CommandBroker(connection_url(str(settings.rabbitmq_url), heartbeat=settings.heartbeat), consuming)
    for definition in registry.definitions.values():
        Actor(
            executor.execute,
            broker=broker,
            actor_name=definition.type,
            queue_name=topology.work_queue_name(definition.queue),
            priority=0,
            options={"throws": (Stopping, DeliveredTooOften)},
        )
    for queue in quarantines:
        broker.declare_queue(queue)
    wakes = int(WORKER_WAKES_EVERY.total_seconds() * 1000)
    worker = CommandWorker(broker, worker_threads=settings.threads, worker_timeout=wakes)
    # Dramatiq prefetches twice as many: long jobs would queue behind one another on a busy worker.
    worker.queue_prefetch = settings.threads
    worker.start()
    return worker


def _held(worker: Worker) -> int:
    """How many deliveries are not acknowledged yet."""
    return sum(len(getattr(thread.consumer, "known_tags", ())) for thread in worker.consumers.values())


def _drain(worker: Worker, executor: Executor, settings: ProcessorSettings) -> None:
    """Let running handlers finish; those that take longer are interrupted, and their jobs go back to their queue."""
    patience = settings.drain_timeout
    log.info("draining", running=len(executor.running()), patience=patience.total_seconds())
    interrupt = threading.Timer(patience.total_seconds(), executor.interrupt)
    interrupt.daemon = True
    interrupt.start()
    worker.stop(timeout=int((patience + settings.cancel_grace + AFTER_INTERRUPT).total_seconds() * 1000))
    interrupt.cancel()
