"""The composition root: builds the tracker from its settings and runs it until it is stopped."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from redis.asyncio import Redis

from milepost_contracts.messages.broker_objects import Queue
from milepost_contracts.messages.topology import Topology
from milepost_contracts.messages.trust import Trust
from milepost_contracts.status.redis_keys import SHARDS, Keys
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_rabbit.publisher import RabbitPublisher
from milepost_service.callback_urls import Resolver
from milepost_service.garbage_collector import freeze_gc
from milepost_service.health import HealthServer
from milepost_tracker.adapters.rabbit.consumer import Batching, Project, RabbitConsumer
from milepost_tracker.adapters.rabbit.event_log import RabbitEventLog
from milepost_tracker.adapters.rabbit.event_publisher import RabbitEventPublisher
from milepost_tracker.adapters.rabbit.message_router import RabbitMessageRouter
from milepost_tracker.adapters.rabbit.queue_counts import RabbitQueueCounts
from milepost_tracker.adapters.rabbit.webhook_queue import RabbitWebhookQueue
from milepost_tracker.adapters.redis.job_counts import RedisJobCounts
from milepost_tracker.adapters.redis.poison_store import RedisPoisonStore
from milepost_tracker.adapters.redis.republish_store import RedisRepublishStore
from milepost_tracker.adapters.redis.status_store import RedisStatusStore
from milepost_tracker.adapters.redis.webhook_log import RedisWebhookLog
from milepost_tracker.adapters.redis.worker_store import RedisWorkerStore
from milepost_tracker.adapters.webhook_client import HttpWebhookClient
from milepost_tracker.core import duties
from milepost_tracker.core.dead_letters import DeadLetterHandler
from milepost_tracker.core.projector import StatusProjector, WorkerProjector
from milepost_tracker.core.reaper import Reaper
from milepost_tracker.core.reconciliation import Reconciliation, reconcile
from milepost_tracker.core.redelivery import Redelivery
from milepost_tracker.core.replay import Replayed, Replayer
from milepost_tracker.core.republish import Republisher
from milepost_tracker.core.unrouted import UnroutedHandler
from milepost_tracker.core.webhooks import Webhooks
from milepost_tracker.errors import StoreUnavailable
from milepost_tracker.settings import TrackerSettings

log = structlog.get_logger(__name__)

EXPIRED_INTERVAL = timedelta(seconds=30)
OVERDUE_INTERVAL = timedelta(seconds=5)
REPUBLISH_INTERVAL = timedelta(minutes=10)
RECONCILE_INTERVAL = timedelta(seconds=60)
DECLARE_INTERVAL = timedelta(seconds=30)
"""How often what somebody deleted at the broker is declared again."""


class _Parts:
    """The adapters that the service and its commands share."""

    def __init__(self, settings: TrackerSettings) -> None:
        self.url = str(settings.rabbitmq_url)
        self.trust = Trust(settings.senders, settings.keyring)
        self.topology = Topology(
            namespace=settings.namespace,
            log_retention=settings.retention,
            log_max_bytes=settings.log_max_bytes,
            delivery_limit=settings.delivery_limit,
        )
        self.keys = Keys(namespace=settings.namespace)
        self.redis = Redis.from_url(
            str(settings.redis_url),
            socket_timeout=5,
            socket_connect_timeout=5,
            driver_info=None,  # not permitted
        )
        self.store = RedisStatusStore(self.redis, self.keys, retention=settings.retention, live_for=settings.live_for)
        self.log = RabbitEventLog(self.url, self.topology)
        self.job_counts = RedisJobCounts(self.redis, self.keys)
        self.queue_counts = RabbitQueueCounts(self.url, self.topology)


async def rebuild(settings: TrackerSettings, since: datetime | None, report: Callable[[Replayed], None]) -> Replayed:
    """Apply the log to the view, from `since` on; all of it marks the view as complete.

    Raises:
        EventLogUnavailable: It can't be read to its end now.
        StoreUnavailable: A tracker was replaying, too.
    """
    parts = _Parts(settings)
    try:
        if since is None:
            await parts.store.checkpoints.begin_replay(range(SHARDS))
        replayer = Replayer(parts.trust, parts.store, parts.log, conclude=_leave_to_the_tracker)
        done = await replayer.replay(since, so_far=report)
        if since is None and not await parts.store.checkpoints.mark_complete(range(SHARDS)):
            raise StoreUnavailable(
                "A tracker was rebuilding the view too, or Redis lost writes again. Run it once more."
            )
        return done
    finally:
        await parts.redis.aclose()


async def reconcile_once(settings: TrackerSettings) -> Reconciliation:
    """Compare the view with what is held, once.

    Raises:
        EventLogUnavailable, StoreUnavailable: One of them can't be read now.
    """
    parts = _Parts(settings)
    try:
        return await reconcile(parts.job_counts, parts.queue_counts)
    finally:
        await parts.redis.aclose()


async def run(settings: TrackerSettings) -> None:
    """Project until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    parts = _Parts(settings)
    confirming = RabbitPublisher(parts.url, name="tracker events")
    publisher = RabbitEventPublisher(confirming, parts.topology)
    router = RabbitMessageRouter(confirming, parts.topology)
    reaper = Reaper(parts.store, parts.job_counts, publisher)
    replayer = Replayer(parts.trust, parts.store, parts.log, conclude=reaper.cancel)
    status = StatusProjector(parts.trust, parts.store, reaper, publisher)
    unfinished = RedisRepublishStore(parts.redis, parts.keys, parts.store, live_for=settings.live_for)
    republisher = Republisher(unfinished, publisher, retention=settings.retention)
    redelivery = Redelivery(unfinished, parts.store, parts.job_counts, parts.queue_counts, router, shards=range(SHARDS))
    projects = _projects(parts, status, publisher, router)
    batching = Batching(size=settings.batch_size, prefetch=settings.prefetch)
    consumer = RabbitConsumer(parts.url, parts.topology, projects, batching, on_open=replayer.audit_soon)
    health = HealthServer(
        host=settings.health_host,
        port=settings.health_port,
        unready=lambda: _unready(consumer, replayer),
        token=settings.metrics_token,
    )
    resolver = Resolver(settings.callback_policy)
    webhook_queue = _webhooks(settings, parts, publisher, resolver)
    consumer.link.start()
    confirming.link.start()
    if webhook_queue is not None:
        webhook_queue.link.start()
    tasks = [
        asyncio.create_task(replayer.watch(consumer.link.wait_up)),
        *(
            asyncio.create_task(duties.every(pause, act))
            for pause, act in _periodic_duties(
                parts, consumer, status, reaper, replayer, republisher, redelivery, router
            )
        ),
    ]
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())  # none of them ends by itself
    freeze_gc()
    log.info("tracker_started", namespace=settings.namespace)
    try:
        consumer.failed.add_done_callback(lambda _: stop.set())
        await stop.wait()
        for ended in (consumer.failed, *tasks):
            if ended.done():
                ended.result()
    finally:
        await cancel_and_wait(tasks)
        if webhook_queue is not None:
            await webhook_queue.close()
        resolver.close()
        await consumer.close()
        await confirming.link.close()
        health.close()
        with suppress(StoreUnavailable):
            await parts.store.checkpoints.leave()
        await parts.redis.aclose()
        log.info("tracker_stopped")


def _projects(
    parts: _Parts, status: StatusProjector, publisher: RabbitEventPublisher, router: RabbitMessageRouter
) -> dict[Queue, Project]:
    """Return what is done with the messages of each queue."""
    worker_store = RedisWorkerStore(parts.redis, parts.keys)
    dead_letter_handler = DeadLetterHandler(
        parts.trust, publisher, RedisPoisonStore(parts.redis, parts.keys), parts.store, worker_store
    )
    return {
        parts.topology.lifecycle: status.project,
        parts.topology.progress: status.project,
        parts.topology.worker_queue: WorkerProjector(parts.trust, worker_store, router).project,
        parts.topology.dead_letter_queue: dead_letter_handler.handle,
        parts.topology.unrouted_queue: UnroutedHandler(parts.trust, router).handle,
    }


def _unready(consumer: RabbitConsumer, replayer: Replayer) -> list[str]:
    checks = {"rabbitmq": consumer.link.is_up, "view": replayer.complete}
    return [name for name, well in checks.items() if not well]


def _webhooks(
    settings: TrackerSettings, parts: _Parts, publisher: RabbitEventPublisher, resolver: Resolver
) -> RabbitWebhookQueue | None:
    """Return the consumer of webhooks; without keys, webhooks wait for a tracker that has some."""
    if (keys := settings.signing) is None:
        return None
    webhook_log = RedisWebhookLog(parts.redis, parts.keys, retention=settings.retention)
    webhooks = Webhooks(
        HttpWebhookClient(resolver),
        webhook_log,
        publisher,
        parts.store,
        trust=parts.trust,
        policy=settings.callback_policy,
        keys=keys,
    )
    return RabbitWebhookQueue(parts.url, parts.topology, webhooks.deliver)


def _periodic_duties(
    parts: _Parts,
    consumer: RabbitConsumer,
    status: StatusProjector,
    reaper: Reaper,
    replayer: Replayer,
    republisher: Republisher,
    redelivery: Redelivery,
    router: RabbitMessageRouter,
) -> list[tuple[timedelta, Callable[[], Awaitable[None]]]]:
    """Return the periodic duties beside the projection, and the pause before each."""

    async def end_overdue() -> None:
        await duties.end_overdue(reaper, status, replayer, is_connected=lambda: consumer.link.is_up)

    async def sweep() -> None:
        if swept := await parts.store.sweep():
            log.info("jobs_swept", count=swept)

    async def republish() -> None:
        if replayer.complete:
            await republisher.republish()

    async def compare() -> None:
        reconciliation = await reconcile(parts.job_counts, parts.queue_counts)
        log.info(
            "reconciled",
            difference=reconciliation.difference,
            open=dict(reconciliation.open),
            held=dict(reconciliation.held),
        )
        if duties.is_current(status, replayer, is_connected=lambda: consumer.link.is_up):
            await redelivery.redeliver(reconciliation.difference)

    async def declare() -> None:
        await router.declare(await parts.job_counts.queues())

    return [
        (DECLARE_INTERVAL, declare),
        (EXPIRED_INTERVAL, sweep),
        (OVERDUE_INTERVAL, end_overdue),
        (min(REPUBLISH_INTERVAL, republisher.every), republish),
        (RECONCILE_INTERVAL, compare),
    ]


async def _leave_to_the_tracker(job_ids: Sequence[str]) -> None:
    """Do nothing: a running tracker audits the log, and ends the same jobs."""
    del job_ids
