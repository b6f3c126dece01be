"""The composition root: builds the tracker from its settings and runs it until it is told to stop."""

import asyncio
import signal
from contextlib import suppress
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from milepost_contracts.keys import Keys
from milepost_contracts.topology import Topology
from milepost_service.health import HealthServer
from milepost_tracker.consumer import Batching, RabbitConsumer
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.ports import StatusStore
from milepost_tracker.projector import FleetProjector, StatusProjector
from milepost_tracker.settings import TrackerSettings
from milepost_tracker.store import RedisFleetStore, RedisStatusStore

log = structlog.get_logger(__name__)

SWEEP_EVERY = timedelta(seconds=30)


async def run(settings: TrackerSettings) -> None:
    """Project until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    redis = Redis.from_url(str(settings.redis_url), socket_timeout=5, socket_connect_timeout=5)
    keys = Keys(namespace=settings.namespace)
    store = RedisStatusStore(redis, keys, retention=settings.retention, live_for=settings.live_for)
    status, fleet = StatusProjector(store), FleetProjector(RedisFleetStore(redis, keys))
    topology = Topology(namespace=settings.namespace, log_for=settings.retention)
    consumer = RabbitConsumer(
        str(settings.rabbitmq_url),
        topology,
        {
            topology.lifecycle: status.project,
            topology.progress: status.project,
            topology.fleet_queue: fleet.project,
        },
        Batching(size=settings.batch_size, wait=settings.batch_wait, prefetch=settings.prefetch),
    )
    health = HealthServer(
        host=settings.health_host,
        port=settings.health_port,
        unready=lambda: [] if consumer.link.is_up else ["rabbitmq"],
    )
    consumer.link.start()
    sweeper = asyncio.create_task(_sweep(store))
    log.info("tracker_started", namespace=settings.namespace)
    try:
        consumer.failed.add_done_callback(lambda _: stop.set())
        await stop.wait()
        if consumer.failed.done():
            consumer.failed.result()
    finally:
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        await consumer.close()
        health.close()
        await redis.aclose()
        log.info("tracker_stopped")


async def _sweep(store: StatusStore) -> None:
    while True:
        try:
            swept = await store.sweep()
            if swept:
                log.info("jobs_forgotten", count=swept)
        except StoreUnavailable as error:
            log.warning("sweep_skipped", error=str(error))
        await asyncio.sleep(SWEEP_EVERY.total_seconds())
