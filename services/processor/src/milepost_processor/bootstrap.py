"""The composition root: builds the processor from its settings and runs it until it is stopped."""

import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from secrets import token_hex

import structlog
from dramatiq import Worker
from dramatiq.threading import raise_thread_exception
from redis import Redis

from milepost.errors import Forced
from milepost_contracts.clock import now
from milepost_contracts.messages.senders import Role
from milepost_contracts.messages.topology import Topology
from milepost_contracts.messages.trust import Trust
from milepost_contracts.status.redis_keys import Keys
from milepost_processor.adapters.async_loop import HandlerLoop
from milepost_processor.adapters.cancel_listener import CancelListener
from milepost_processor.adapters.claims import RedisClaims
from milepost_processor.adapters.dramatiq.broker import CommandBroker, CommandWorker, connection_url
from milepost_processor.adapters.dramatiq.consumer import Consuming, nack_counts
from milepost_processor.adapters.dramatiq.worker import consumed, held, start_worker
from milepost_processor.adapters.event_publisher import RabbitEventPublisher
from milepost_processor.adapters.files import BlobFiles
from milepost_processor.adapters.handler_processes import end_processes_of
from milepost_processor.adapters.missing_queues import MissingQueues
from milepost_processor.adapters.os_process import (
    EXIT_GRACE,
    StopSignals,
    crash,
    disinherit_children,
    end_within,
    log_thread_errors,
)
from milepost_processor.core.consumer_timeout import check_consumer_timeout, needed_timeout
from milepost_processor.core.handlers import Handlers, load_handlers
from milepost_processor.core.heartbeat import HeartbeatSender
from milepost_processor.core.put_off import Eligibility
from milepost_processor.core.queue_wait import QueueWait
from milepost_processor.core.resume_keeper import ResumeKeeper
from milepost_processor.core.runner import Runner
from milepost_processor.core.secret_params import ParamsOpener
from milepost_processor.core.watchdog import Watchdog
from milepost_processor.settings import ProcessorSettings
from milepost_redis.server_check import ServerCheck
from milepost_service.exemptions import Exemption
from milepost_service.garbage_collector import freeze_gc
from milepost_service.health import HealthServer
from milepost_service.sealing import Sealer
from milepost_service.settings import SettingsError, blaming

log = structlog.get_logger(__name__)

CHECK_INTERVAL = timedelta(milliseconds=500)
INTERRUPT_GRACE = timedelta(seconds=5)
"""How long interrupted handlers may take to stop before the process ends."""


def load_parts(settings: ProcessorSettings) -> tuple[Handlers, ParamsOpener]:
    """Return the handlers, and what opens their params. A start and `--check` refuse the same here.

    Raises:
        SettingsError, HandlersUnusable: This processor must not run with these settings or handlers.
    """
    handlers = load_handlers(settings.handlers, settings.queues)
    settings.check_own_user(Role.PROCESSOR, queues=frozenset(handlers.queues))
    opener = ParamsOpener(handlers, Sealer.parse(settings.seal_keys.get_secret_value()))
    timeout = check_consumer_timeout(handlers, _overhead(settings), configured=settings.consumer_timeout)
    if problems := [problem for problem in (opener.missing_keys, timeout) if problem]:
        raise SettingsError(*problems)
    return handlers, opener


def run(settings: ProcessorSettings, handlers: Handlers, opener: ParamsOpener) -> int:
    """Run jobs until SIGTERM or SIGINT; return the exit code. If a part of the process ends by itself, crash.

    Raises:
        SettingsError, UnsafeRedis: This processor must not run with these settings or servers.
    """
    stop = StopSignals()
    redis_check = ServerCheck(str(settings.redis_url), allow_eviction=Exemption.EVICTING_REDIS in settings.allow)
    redis_check.start()
    with blaming("BLOBS_URL"):
        files = BlobFiles(settings.blobs_url, namespace=settings.namespace)
    log_thread_errors()
    instance = settings.own_instance_prefix() + f"{socket.gethostname()}-{os.getpid()}-{token_hex(2)}"
    topology, claims = _topology(settings), _create_claims(settings)
    publisher = RabbitEventPublisher(str(settings.rabbitmq_url), topology, heartbeat=settings.heartbeat)
    queue_wait = QueueWait()
    loop = HandlerLoop()
    runner = Runner(
        handlers,
        opener=opener,
        claims=claims,
        publisher=publisher,
        files=files,
        run_async=loop.run,
        instance=instance,
        claim_patience=settings.claim_patience,
        delivery_limit=settings.delivery_limit,
        queue_wait=queue_wait,
    )
    watchdog = _create_watchdog(runner, claims, loop, settings)
    resume_keeper = ResumeKeeper(runner.running, claims)
    cancel_listener = _create_cancel_listener(settings, topology, runner)
    started_at = now()
    missing_queues = _create_missing_queues(handlers, topology, publisher, instance=instance, started_at=started_at)
    worker: CommandWorker | None = None
    heartbeat_sender = HeartbeatSender(
        handlers,
        instance=instance,
        threads=settings.threads,
        started_at=started_at,
        running=runner.running_jobs,
        held=lambda: held(worker) if worker else 0,
        queue_wait=queue_wait.averages,
        consumed=lambda: consumed(worker, topology, handlers) if worker else (),
    )
    health = HealthServer(
        host=settings.health_host,
        port=settings.health_port,
        token=settings.metrics_token,
        unready=lambda: _unready(publisher, missing_queues, worker, heartbeat_sender),
        alive=lambda: stop.is_awaited,
    )
    disinherit_children((*_server_ports(settings), health.port))
    publisher.start()
    publisher.supervise(missing_queues.run())
    problem = _connect(publisher, stop) or _wait_for_queues(missing_queues, publisher, stop)
    if problem or stop.received:
        _stop(publisher, health, redis_check, problem)
        return 0
    loop.start()
    worker = receiving = _create_worker(settings, topology, handlers, runner, publisher, missing_queues, opener)
    watchdog.start()
    resume_keeper.start()
    publisher.supervise(heartbeat_sender.run(publisher.announce))
    publisher.supervise(cancel_listener.listen())
    freeze_gc()
    log.info("processor_started", instance=instance, types=sorted(handlers.definitions), threads=settings.threads)

    _crash_if_a_part_ends(
        stop, runner, lambda: _dead_parts(receiving, watchdog, resume_keeper, loop, publisher, health)
    )
    end_within(settings.drain_timeout + settings.cancel_grace + INTERRUPT_GRACE + EXIT_GRACE, code=1)
    _drain(worker, runner, settings)
    watchdog.close()
    resume_keeper.close()
    publisher.spawn(heartbeat_sender.send_stopped(publisher.announce)).result()
    log.info("processor_stopped", instance=instance)
    _stop(publisher, health, redis_check)
    return 0


def _stop(
    publisher: RabbitEventPublisher, health: HealthServer, redis_check: ServerCheck, problem: str | None = None
) -> None:
    """Close what is open from the beginning, and raise what must end the process with an error."""
    publisher.close()
    health.close()
    if problem:
        raise SettingsError(problem)
    redis_check.raise_if_refused()


def _create_cancel_listener(settings: ProcessorSettings, topology: Topology, runner: Runner) -> CancelListener:
    return CancelListener(
        str(settings.rabbitmq_url),
        topology,
        trust=Trust(settings.senders, keyring=None),
        cancel=runner.cancel,
        heartbeat=int(settings.heartbeat.total_seconds()),
    )


def _create_missing_queues(
    handlers: Handlers, topology: Topology, publisher: RabbitEventPublisher, *, instance: str, started_at: datetime
) -> MissingQueues:
    return MissingQueues(
        handlers.queues,
        topology,
        instance=instance,
        started_at=started_at,
        announce=publisher.announce,
        connection=lambda: publisher.connection,
    )


def _create_claims(settings: ProcessorSettings) -> RedisClaims:
    redis = Redis.from_url(
        str(settings.redis_url),
        socket_timeout=2,
        socket_connect_timeout=2,
        driver_info=None,  # not permitted
    )
    return RedisClaims(redis, Keys(namespace=settings.namespace), retention=settings.retention)


def _connect(publisher: RabbitEventPublisher, stop: StopSignals) -> str | None:
    """Wait for RabbitMQ, until a signal to stop; return what has broken meanwhile."""
    while not (publisher.wait_up(0.5) or publisher.broken or stop.wait(0)):
        log.info("waiting_for_rabbitmq")
    return None if stop.received else publisher.broken


def _wait_for_queues(missing: MissingQueues, publisher: RabbitEventPublisher, stop: StopSignals) -> str | None:
    """Wait until trackers have declared the queues, or for a signal to stop; return what has broken meanwhile."""
    while not (missing.wait_for_none(0.5) or publisher.broken or stop.wait(0)):
        log.info("waiting_for_queues", missing=missing.names)
    return publisher.broken


def _crash_if_a_part_ends(stop: StopSignals, runner: Runner, dead_parts: Callable[[], list[str]]) -> None:
    """Return when a signal to stop is received; crash if a part of the process has ended before."""
    while not stop.wait(CHECK_INTERVAL.total_seconds()):
        if dead := dead_parts():
            log.critical("processor_crashed", why="; ".join(dead), running=[job.id for job in runner.running_jobs()])
            crash()


def _dead_parts(
    worker: CommandWorker,
    watchdog: Watchdog,
    resume_keeper: ResumeKeeper,
    loop: HandlerLoop,
    publisher: RabbitEventPublisher,
    health: HealthServer,
) -> list[str]:
    """Return which parts of the process have ended by themselves: it can't keep its promises without them."""
    alive = {
        "a worker thread": all(thread.is_alive() for thread in worker.workers),
        "a consumer thread": all(thread.is_alive() for thread in worker.consumers.values()),
        "the flow control": worker.flow.is_alive(),
        "the watchdog": watchdog.is_alive,
        "the resume keeper": resume_keeper.is_alive,
        "the event loop of the async handlers": loop.is_alive,
        "the event publisher": publisher.is_alive,
        "the health server": health.is_alive,
    }
    ended = [f"{part} has ended" for part, is_alive in alive.items() if not is_alive]
    return ended + [why for why in (publisher.broken, watchdog.broken) if why]


def _server_ports(settings: ProcessorSettings) -> tuple[int, int]:
    """Return the ports of RabbitMQ and Redis."""
    default = 5671 if settings.rabbitmq_url.scheme == "amqps" else 5672
    return settings.rabbitmq_url.port or default, settings.redis_url.port or 6379


def _topology(settings: ProcessorSettings) -> Topology:
    return Topology(
        namespace=settings.namespace, log_retention=settings.retention, delivery_limit=settings.delivery_limit
    )


def _unready(
    publisher: RabbitEventPublisher, missing: MissingQueues, worker: CommandWorker | None, heartbeats: HeartbeatSender
) -> list[str]:
    """Return what is missing. A connection is not enough: each queue must be consumed, and its types announced."""
    if not publisher.is_up:
        return [publisher.unready]
    if worker is None:
        return missing.problems or ["worker"]
    if worker.broker.stopping:
        return ["draining"]
    not_consumed = [f"queue {queue} is not consumed: {why}" for queue, why in worker.broker.not_consumed.items()]
    return not_consumed or [f"the types of the queue {queue} are not announced yet" for queue in heartbeats.unannounced]


def _overhead(settings: ProcessorSettings) -> timedelta:
    """Return how long a delivery may stay un-acknowledged on top of its job's own time."""
    return settings.claim_patience + settings.cancel_grace + settings.drain_timeout


def _raise_in(thread_id: int) -> None:
    raise_thread_exception(thread_id, Forced)  # type: ignore[no-untyped-call]
    end_processes_of(thread_id)


def _create_watchdog(runner: Runner, claims: RedisClaims, loop: HandlerLoop, settings: ProcessorSettings) -> Watchdog:
    return Watchdog(
        runner.running,
        held=runner.held,
        record_confirmed=runner.outcomes.record_confirmed,
        claims=claims,
        loop=loop,
        grace=settings.cancel_grace,
        raise_in=_raise_in,
    )


def _create_worker(
    settings: ProcessorSettings,
    topology: Topology,
    handlers: Handlers,
    runner: Runner,
    publisher: RabbitEventPublisher,
    missing_queues: MissingQueues,
    opener: ParamsOpener,
) -> CommandWorker:
    consuming = Consuming(
        timeout=needed_timeout(handlers, _overhead(settings)),
        one_at_a_time=frozenset(topology.quarantine_queue_name(queue) for queue in handlers.queues),
        trust=Trust(settings.senders, keyring=None),
        eligibility=Eligibility(handlers, opener, delivery_limit=settings.delivery_limit),
        publish=publisher.publish_soon,
        nack_counts=nack_counts(publisher.broker_version),
        queue_missing=missing_queues.check_soon,
    )
    broker = CommandBroker(connection_url(str(settings.rabbitmq_url), heartbeat=settings.heartbeat), consuming)
    return start_worker(broker, runner.execute, handlers=handlers, topology=topology, threads=settings.threads)


def _drain(worker: Worker, runner: Runner, settings: ProcessorSettings) -> None:
    """Let running handlers finish; those that take longer are interrupted, and their jobs go back to their queue."""
    patience = settings.drain_timeout
    log.info("draining", running=len(runner.running()), patience=patience.total_seconds())
    interrupt = threading.Timer(patience.total_seconds(), runner.interrupt)
    interrupt.daemon = True
    interrupt.start()
    worker.stop(timeout=int((patience + settings.cancel_grace + INTERRUPT_GRACE).total_seconds() * 1000))
    interrupt.cancel()
    if left := [job.id for job in runner.running_jobs()]:
        log.warning("jobs_left_running", jobs=left, detail="they did not stop in time, and will be delivered again")
