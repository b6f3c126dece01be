"""The composition root: builds the processor from its settings and runs it until it is told to stop."""

import os
import signal
import socket
import threading
from datetime import timedelta
from secrets import token_hex
from typing import Any

import structlog
from dramatiq import Worker
from dramatiq.actor import Actor
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.message import set_encoder
from redis import Redis

from milepost_contracts.envelope import now
from milepost_contracts.keys import Keys
from milepost_contracts.topology import Topology
from milepost_processor.beacon import Beacon
from milepost_processor.broker import CommandBroker, connection_url
from milepost_processor.courier import Courier
from milepost_processor.encoder import EnvelopeEncoder
from milepost_processor.errors import Stopping
from milepost_processor.execution import Executor
from milepost_processor.files import BlobFiles
from milepost_processor.gate import RedisGate
from milepost_processor.registry import Registry
from milepost_processor.settings import ProcessorSettings
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
    courier = Courier(url, topology, registry.queues)
    executor = Executor(
        registry,
        gate=RedisGate(redis, keys, retention=settings.retention),
        outbox=courier,
        files=BlobFiles(settings.blobs_url),
        run_async=_run_async,
        instance=instance,
        gate_patience=settings.gate_patience,
    )
    beacon = Beacon(registry, instance=instance, threads=settings.threads, started_at=now(), running=executor.running)
    health = HealthServer(
        host=settings.health_host,
        port=settings.health_port,
        unready=lambda: [] if courier.is_up else ["rabbitmq"],
    )
    courier.start()
    while not (courier.wait_up(0.5) or courier.broken or stop.is_set()):
        log.info("waiting_for_rabbitmq")
    if courier.broken:
        courier.close()
        health.close()
        raise SettingsError(courier.broken)
    worker = _create_worker(url, topology, registry, executor, settings.threads)
    courier.keep(beacon.shine(courier.announce))
    log.info("processor_started", instance=instance, types=sorted(registry.definitions), threads=settings.threads)

    healthy = True
    while healthy and not stop.wait(WORKER_WAKES_EVERY.total_seconds()):
        alive = all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))
        healthy = alive and courier.broken is None
    if not healthy:
        why = courier.broken or "a worker or consumer thread ended by itself"
        log.critical("can_not_go_on", why=why, detail="the process ends, for another one to be started")
    _drain(worker, executor, settings.drain_timeout)
    courier.spawn(beacon.go_out(courier.announce)).result()
    courier.close()
    health.close()
    log.info("processor_stopped", instance=instance)
    return 0 if healthy else 1


def _topology(settings: ProcessorSettings) -> Topology:
    return Topology(namespace=settings.namespace, log_for=settings.retention)


def _run_async(coroutine: Any) -> Any:
    thread = get_event_loop_thread()
    if thread is None:
        raise RuntimeError("the event loop of Dramatiq's AsyncIO middleware is not running")
    return thread.run_coroutine(coroutine)


def _create_worker(url: str, topology: Topology, registry: Registry, executor: Executor, threads: int) -> Worker:
    set_encoder(EnvelopeEncoder(topology))
    broker = CommandBroker(connection_url(url))
    for definition in registry.definitions.values():
        Actor(
            executor.execute,
            broker=broker,
            actor_name=definition.type,
            queue_name=topology.work_queue_name(definition.queue),
            priority=0,
            options={"throws": Stopping},
        )
    worker = Worker(broker, worker_threads=threads, worker_timeout=int(WORKER_WAKES_EVERY.total_seconds() * 1000))
    # Dramatiq prefetches twice as many: long jobs would queue behind one another on a busy worker.
    worker.queue_prefetch = threads
    worker.start()
    return worker


def _drain(worker: Worker, executor: Executor, patience: timedelta) -> None:
    """Let running handlers finish; those that take longer are interrupted, and their jobs go back to their queue."""
    log.info("draining", running=len(executor.running()), patience=patience.total_seconds())
    interrupt = threading.Timer(patience.total_seconds(), executor.interrupt)
    interrupt.daemon = True
    interrupt.start()
    worker.stop(timeout=int((patience + AFTER_INTERRUPT).total_seconds() * 1000))
    interrupt.cancel()
