"""The composition root: builds the tracker from its settings and runs it until it is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from redis.asyncio import Redis

from milepost_contracts.keys import SHARDS, Keys
from milepost_contracts.topology import Topology
from milepost_rabbit.cancelling import end
from milepost_service import collector
from milepost_service.callbacks import Lookup
from milepost_service.health import HealthServer
from milepost_tracker.books import RabbitHolders, RedisAccounts
from milepost_tracker.consumer import Batching, RabbitConsumer
from milepost_tracker.endpoint import HttpEndpoint
from milepost_tracker.errors import LogUnavailable, StoreUnavailable
from milepost_tracker.fleet import RedisFleetStore, RedisPoisonStore
from milepost_tracker.log import StreamLog
from milepost_tracker.outbox import RabbitOutbox
from milepost_tracker.projector import FleetProjector, StatusProjector
from milepost_tracker.reconcile import Books, reconcile
from milepost_tracker.replay import Replayed, Replayer
from milepost_tracker.retell import Reteller
from milepost_tracker.settings import TrackerSettings
from milepost_tracker.store import RedisStatusStore
from milepost_tracker.undertaker import Undertaker
from milepost_tracker.verdicts import Verdicts
from milepost_tracker.webhook_log import RedisWebhookLog
from milepost_tracker.webhook_queue import RabbitWebhookQueue
from milepost_tracker.webhooks import Webhooks

log = structlog.get_logger(__name__)

SWEEP_EVERY = timedelta(seconds=30)
OVERDUE_EVERY = timedelta(seconds=5)
RETELL_EVERY = timedelta(minutes=10)
RECONCILE_EVERY = timedelta(seconds=60)
TOO_FAR_BEHIND = timedelta(seconds=10)
"""While the view is older than this, nobody is called lost: what the job said may be on its way."""


class Parts:
    """Everything that talks to Redis, for the service and for its commands."""

    def __init__(self, settings: TrackerSettings) -> None:
        self.url = str(settings.rabbitmq_url)
        self.topology = Topology(namespace=settings.namespace, log_for=settings.retention)
        self.keys = Keys(namespace=settings.namespace)
        self.redis = Redis.from_url(str(settings.redis_url), socket_timeout=5, socket_connect_timeout=5)
        self.store = RedisStatusStore(self.redis, self.keys, retention=settings.retention, live_for=settings.live_for)
        self.log = StreamLog(self.url, self.topology)
        self.accounts = RedisAccounts(self.redis, self.keys)
        self.holders = RabbitHolders(self.url, self.topology, self.accounts)


async def rebuild(settings: TrackerSettings, since: datetime | None, told: Callable[[Replayed], None]) -> Replayed:
    """Apply the log to the view, from `since` on; all of it makes the view whole, and says so.

    Raises:
        LogUnavailable: It can't be read to its end now.
        StoreUnavailable: Somebody else was at it, too.
    """
    parts = Parts(settings)
    try:
        if since is None:
            await parts.store.watermarks.begin_replay(range(SHARDS))
        replayer = Replayer(parts.store, parts.log, conclude=_left_to_the_tracker)
        done = await replayer.replay(since, so_far=told)
        if since is None and not await parts.store.watermarks.mark(range(SHARDS)):
            raise StoreUnavailable("a tracker was rebuilding the view too, or Redis forgot again: run it once more")
        return done
    finally:
        await parts.redis.aclose()


async def look_at_books(settings: TrackerSettings) -> Books:
    """Reconcile once.

    Raises:
        LogUnavailable, StoreUnavailable: One of the sides can't be read now.
    """
    parts = Parts(settings)
    try:
        return await reconcile(parts.accounts, parts.holders)
    finally:
        await parts.redis.aclose()


async def run(settings: TrackerSettings) -> None:
    """Project until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    parts = Parts(settings)
    topology = parts.topology
    outbox = RabbitOutbox(parts.url, topology)
    verdicts = Verdicts(parts.store, outbox)
    replayer = Replayer(parts.store, parts.log, conclude=verdicts.cancel)
    status = StatusProjector(parts.store, verdicts, outbox)
    fleet = FleetProjector(RedisFleetStore(parts.redis, parts.keys))
    reteller = Reteller(parts.store, outbox, retention=settings.retention)
    undertaker = Undertaker(outbox, RedisPoisonStore(parts.redis, parts.keys), parts.store)
    consumer = RabbitConsumer(
        parts.url,
        topology,
        {
            topology.lifecycle: status.project,
            topology.progress: status.project,
            topology.fleet_queue: fleet.project,
            topology.parked: undertaker.settle,
        },
        Batching(size=settings.batch_size, prefetch=settings.prefetch),
        on_open=replayer.again,
    )

    def unready() -> list[str]:
        checks = {"rabbitmq": consumer.link.is_up, "view": replayer.whole}
        return [name for name, well in checks.items() if not well]

    health = HealthServer(host=settings.health_host, port=settings.health_port, unready=unready)
    lookup = Lookup(settings.callbacks)
    telling = _webhooks(settings, parts, outbox, lookup)
    consumer.link.start()
    outbox.link.start()
    if telling is not None:
        telling.link.start()
    tasks = [
        asyncio.create_task(replayer.watch(consumer.link.wait_up)),
        *(asyncio.create_task(chore) for chore in _chores(parts, consumer, status, verdicts, replayer, reteller)),
    ]
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())  # none of them ends by itself
    collector.spare()
    log.info("tracker_started", namespace=settings.namespace)
    try:
        consumer.failed.add_done_callback(lambda _: stop.set())
        await stop.wait()
        for ended in (consumer.failed, *tasks):
            if ended.done():
                ended.result()
    finally:
        await end(tasks)
        if telling is not None:
            await telling.close()
        lookup.close()
        await consumer.close()
        await outbox.link.close()
        health.close()
        with suppress(StoreUnavailable):
            await parts.store.watermarks.leave()
        await parts.redis.aclose()
        log.info("tracker_stopped")


def _webhooks(
    settings: TrackerSettings, parts: Parts, outbox: RabbitOutbox, lookup: Lookup
) -> RabbitWebhookQueue | None:
    """Return what delivers webhooks; without keys they wait for a tracker that has some."""
    if (keys := settings.signing) is None:
        return None
    log_of = RedisWebhookLog(parts.redis, parts.keys, retention=settings.retention)
    webhooks = Webhooks(HttpEndpoint(lookup), log_of, outbox, rule=settings.callbacks, keys=keys)
    return RabbitWebhookQueue(parts.url, parts.topology, webhooks.deliver)


def _chores(
    parts: Parts,
    consumer: RabbitConsumer,
    status: StatusProjector,
    verdicts: Verdicts,
    replayer: Replayer,
    reteller: Reteller,
) -> list[Coroutine[Any, Any, None]]:
    """Return what is to be done now and then, beside the events."""

    async def end_overdue() -> None:
        if status.behind < TOO_FAR_BEHIND and replayer.whole and consumer.link.is_up:
            await verdicts.end_overdue()

    async def sweep() -> None:
        if swept := await parts.store.sweep():
            log.info("jobs_forgotten", count=swept)

    async def retell() -> None:
        if replayer.whole:
            await reteller.retell()

    async def look() -> None:
        books = await reconcile(parts.accounts, parts.holders)
        log.info("books", difference=books.difference, open=dict(books.open), held=dict(books.held))

    return [
        _every(SWEEP_EVERY, sweep),
        _every(OVERDUE_EVERY, end_overdue),
        _every(min(RETELL_EVERY, reteller.every), retell),
        _every(RECONCILE_EVERY, look),
    ]


async def _left_to_the_tracker(job_ids: Sequence[str]) -> None:
    """A running tracker audits the log, and comes to the same conclusions."""
    del job_ids


async def _every(pause: timedelta, act: Callable[[], Awaitable[None]]) -> None:
    """Act again and again until cancelled; what can't be done now is done next time."""
    while True:
        await asyncio.sleep(pause.total_seconds())
        try:
            await act()
        except (StoreUnavailable, LogUnavailable) as error:
            log.warning("put_off", what=act.__name__, error=str(error))
