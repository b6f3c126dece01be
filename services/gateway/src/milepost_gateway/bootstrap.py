"""The composition root: builds the gateway's app from its settings."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry as RedisRetry
from redis.backoff import NoBackoff
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from milepost_contracts.http.callback_urls import CallbackPolicy
from milepost_contracts.http.webhooks import WebhookKeys
from milepost_contracts.ids import Keyring
from milepost_contracts.messages.topology import Topology
from milepost_contracts.status.redis_keys import Keys
from milepost_gateway.adapters.access_rules import AccessFile
from milepost_gateway.adapters.blob_store import ObjectBlobStore
from milepost_gateway.adapters.broker import RabbitBroker
from milepost_gateway.adapters.params_validator import ProcessValidator
from milepost_gateway.adapters.redis.change_feed import RedisChangeFeed
from milepost_gateway.adapters.redis.hot_cache import HotCache
from milepost_gateway.adapters.redis.idempotency_store import RedisIdempotencyStore
from milepost_gateway.adapters.redis.job_index import RedisJobIndex
from milepost_gateway.adapters.redis.poison_store import RedisPoisonStore
from milepost_gateway.adapters.redis.status_store import RedisStatusStore
from milepost_gateway.adapters.redis.webhook_log import RedisWebhookLog
from milepost_gateway.adapters.redis.worker_store import RedisWorkerStore
from milepost_gateway.adapters.token_verifier import JwtVerifier
from milepost_gateway.api import openapi, problems, responses
from milepost_gateway.api.browsers import BrowserPolicy
from milepost_gateway.api.dependencies import Dependencies
from milepost_gateway.api.fast_path import Gateway
from milepost_gateway.api.requests import BodyLimits
from milepost_gateway.api.routes import (
    batches,
    dashboard,
    dead_letters,
    downloads,
    health,
    jobs,
    streams,
    webhooks,
    websocket,
    workers,
)
from milepost_gateway.core.authentication import Authentication
from milepost_gateway.core.batches import Batches
from milepost_gateway.core.callback_urls import CallbackUrls
from milepost_gateway.core.cancellation import Cancellation
from milepost_gateway.core.dead_letters import DeadLetters
from milepost_gateway.core.deletion import Deletion
from milepost_gateway.core.idempotency import Idempotency
from milepost_gateway.core.job_stream import JobStream
from milepost_gateway.core.job_types import KnownTypes
from milepost_gateway.core.orphaned_files import OrphanedFiles
from milepost_gateway.core.quotas import Quotas
from milepost_gateway.core.retry import Retry
from milepost_gateway.core.status import Statuses
from milepost_gateway.core.submission import Acceptance
from milepost_gateway.core.tag_stream import TagStream
from milepost_gateway.core.webhooks import Webhooks
from milepost_gateway.ports.access_rules import AccessRules
from milepost_gateway.ports.blob_store import BlobStore
from milepost_gateway.ports.broker import Broker
from milepost_gateway.ports.change_feed import ChangeFeed
from milepost_gateway.ports.host_resolver import HostResolver
from milepost_gateway.ports.idempotency_store import IdempotencyStore
from milepost_gateway.ports.job_index import JobIndex
from milepost_gateway.ports.params_validator import ParamsValidator
from milepost_gateway.ports.poison_store import PoisonStore
from milepost_gateway.ports.status_store import StatusStore
from milepost_gateway.ports.token_verifier import TokenVerifier
from milepost_gateway.ports.webhook_log import WebhookLog
from milepost_gateway.ports.worker_store import WorkerStore
from milepost_gateway.settings import GatewaySettings
from milepost_rabbit.cancelling import cancel_and_wait
from milepost_service.callback_urls import Resolver
from milepost_service.garbage_collector import freeze_gc
from milepost_service.sealing import Sealer
from milepost_service.settings import blaming

REDIS_TIMEOUT = 1.0
MAX_REDIS_CONNECTIONS = 32


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """The adapters that the core uses, one for each port."""

    access_rules: AccessRules
    blob_store: BlobStore
    broker: Broker
    change_feed: ChangeFeed
    #: `None` if the deployment sends no webhooks.
    host_resolver: HostResolver | None
    idempotency_store: IdempotencyStore
    job_index: JobIndex
    params_validator: ParamsValidator
    poison_store: PoisonStore
    status_store: StatusStore
    token_verifier: TokenVerifier
    webhook_log: WebhookLog
    worker_store: WorkerStore


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The configured values that the core uses."""

    keyring: Keyring
    sealer: Sealer
    webhook_keys: WebhookKeys | None
    callback_policy: CallbackPolicy
    retention: timedelta
    limits: BodyLimits
    #: Whether callers need no API key or token.
    open: bool
    metrics_token: str | None = None
    projection_timeout: timedelta = timedelta(seconds=2)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the ASGI app; it connects when it starts and closes when it stops.

    Raises:
        SettingsError: The blob storage can't be opened.
    """
    with blaming("BLOBS_URL"):
        blob_store = ObjectBlobStore(settings.blobs_url, namespace=settings.namespace)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis, subscriber = _redis(str(settings.redis_url)), _redis(str(settings.redis_url))
        keys = Keys(namespace=settings.namespace)
        topology = Topology(namespace=settings.namespace, log_retention=settings.retention)
        broker = RabbitBroker(str(settings.rabbitmq_url), topology)
        change_feed = RedisChangeFeed(subscriber, keys)
        resolver, validator = Resolver(settings.callback_policy), ProcessValidator()
        adapters = Adapters(
            access_rules=AccessFile(settings.access_file),
            blob_store=blob_store,
            broker=broker,
            change_feed=change_feed,
            host_resolver=resolver if settings.signing else None,
            idempotency_store=RedisIdempotencyStore(redis, keys),
            job_index=RedisJobIndex(redis, keys),
            params_validator=validator,
            poison_store=RedisPoisonStore(redis, keys),
            status_store=HotCache(RedisStatusStore(redis, keys), change_feed),
            token_verifier=JwtVerifier(),
            webhook_log=RedisWebhookLog(redis, keys),
            worker_store=RedisWorkerStore(redis, keys),
        )
        app.state.dependencies = wired = wire(adapters, _policy(settings), closing=app.state.closing)
        broker.link.start()
        background = (wired.job_types.keep_fresh(), change_feed.keep(), wired.orphaned_files.run())
        tasks = [asyncio.create_task(work) for work in background]
        freeze_gc()
        try:
            yield
        finally:
            await cancel_and_wait(tasks)
            await broker.link.close()
            resolver.close()
            await validator.close()
            await redis.aclose()
            await subscriber.aclose()

    return build_app(lifespan, origins=settings.cors_origins, hosts=settings.known_hosts, docs=settings.docs)


def _policy(settings: GatewaySettings) -> Policy:
    return Policy(
        keyring=settings.keyring,
        sealer=Sealer.parse(settings.seal_keys.get_secret_value()),
        webhook_keys=settings.signing,
        callback_policy=settings.callback_policy,
        retention=settings.retention,
        limits=BodyLimits(body=settings.max_body, upload=settings.max_upload, files=settings.max_files),
        open=settings.access_file is None,
        metrics_token=None if settings.metrics_token is None else settings.metrics_token.get_secret_value(),
    )


def wire(adapters: Adapters, policy: Policy, *, closing: asyncio.Event) -> Dependencies:
    """Build the core on these adapters; `closing` is set when the process is to stop."""
    keyring, store, index, broker = policy.keyring, adapters.status_store, adapters.job_index, adapters.broker
    retention, change_feed = policy.retention, adapters.change_feed
    job_types = KnownTypes(adapters.worker_store, adapters.params_validator)
    statuses = Statuses(keyring=keyring, store=store, index=index, retention=retention)
    quotas = Quotas(rules=adapters.access_rules, index=index)
    retry = Retry(statuses=statuses, broker=broker, quotas=quotas, keyring=keyring)
    acceptance = Acceptance(
        keyring=keyring,
        job_types=job_types,
        quotas=quotas,
        broker=broker,
        blob_store=adapters.blob_store,
        callback_urls=CallbackUrls(policy.callback_policy, adapters.host_resolver),
        sealer=policy.sealer,
    )
    job_stream = JobStream(
        statuses=statuses, store=store, change_feed=change_feed, projection_timeout=policy.projection_timeout
    )
    return Dependencies(
        authentication=Authentication(
            rules=adapters.access_rules,
            tokens=adapters.token_verifier,
            keyring=keyring,
            open=policy.open,
            metrics_token=policy.metrics_token,
        ),
        quotas=quotas,
        acceptance=acceptance,
        batches=Batches(keyring=keyring, acceptance=acceptance, index=index, retention=retention),
        statuses=statuses,
        cancellation=Cancellation(statuses=statuses, job_stream=job_stream, broker=broker),
        idempotency=Idempotency(keyring=keyring, store=adapters.idempotency_store, retention=retention),
        job_stream=job_stream,
        tag_stream=TagStream(store=store, index=index, change_feed=change_feed, retention=retention),
        retry=retry,
        deletion=Deletion(statuses=statuses, broker=broker),
        orphaned_files=OrphanedFiles(blob_store=adapters.blob_store, store=store, retention=retention),
        dead_letters=DeadLetters(keyring=keyring, store=store, index=index, poison=adapters.poison_store, retry=retry),
        webhooks=Webhooks(
            statuses=statuses, store=store, log=adapters.webhook_log, broker=broker, keys=policy.webhook_keys
        ),
        blob_store=adapters.blob_store,
        job_types=job_types,
        job_index=index,
        broker=broker,
        store=store,
        limits=policy.limits,
        retention=retention,
        closing=closing,
    )


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Return the CORS options for pages of these origins: the headers they may send and read. There are no cookies."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "POST", "DELETE"],
        "allow_headers": ["Authorization", "X-API-Key", "Prefer", "If-None-Match", "Idempotency-Key", "Last-Event-ID",
                          "Content-Type", "traceparent"],
        "expose_headers": ["Location", "Operation-Location", "Retry-After", "ETag", "Link", "Preference-Applied",
                           "Sunset", "X-Request-Id", "Content-Disposition", "Content-Range", "Repr-Digest"],
        "max_age": 600,
    }  # fmt: skip


def _redis(url: str) -> Redis:
    """Return a client whose callers wait for a pooled connection instead of failing."""
    return Redis.from_pool(
        BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_REDIS_CONNECTIONS,
            timeout=REDIS_TIMEOUT,
            socket_timeout=REDIS_TIMEOUT,
            socket_connect_timeout=REDIS_TIMEOUT,
            retry=RedisRetry(NoBackoff(), 1),
            driver_info=None,  # its command is not permitted to services
        )
    )


def build_app(
    lifespan: Lifespan[FastAPI] | None = None,
    *,
    origins: Sequence[str] = (),
    hosts: frozenset[str] | None = None,
    docs: bool = True,
) -> FastAPI:
    """Return the app without its core: the caller sets `app.state.dependencies`."""
    app = Gateway(
        browsers=BrowserPolicy(hosts=hosts, origins=frozenset(origins)),
        title="Milepost",
        version=version("milepost-gateway"),
        summary="Submit a long-running job, get 202 Accepted, and follow every step.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's own pages load scripts of another host
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.closing = asyncio.Event()
    if origins:
        app.add_middleware(CORSMiddleware, **cors(origins))
    problems.install(app)
    openapi.install(app)
    for routes in (jobs, batches, downloads, streams, websocket, dead_letters, webhooks, workers):
        app.include_router(routes.router, responses=responses.AUTHENTICATED)
    app.include_router(health.router)
    dashboard.install(app, docs=docs)
    return app
