"""The composition root: builds the gateway's app from its settings."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from milepost_contracts.ids import Keyring
from milepost_contracts.keys import Keys
from milepost_contracts.topology import Topology
from milepost_gateway.access import Access
from milepost_gateway.access_file import AccessFile
from milepost_gateway.admission import Admission
from milepost_gateway.api import (
    batches,
    contract,
    dashboard,
    dead_letters,
    downloads,
    fleet,
    health,
    jobs,
    problems,
    streams,
    webhooks,
    websocket,
)
from milepost_gateway.api.hot import Gateway
from milepost_gateway.api.requests import Limits
from milepost_gateway.api.services import Services
from milepost_gateway.batches import Batches
from milepost_gateway.blobs import ObjectBlobs
from milepost_gateway.broker import RabbitBroker
from milepost_gateway.callbacks import Callbacks
from milepost_gateway.cancellation import Cancellation
from milepost_gateway.catalogue import Catalogue
from milepost_gateway.changes import RedisChanges
from milepost_gateway.dead_letters import DeadLetters
from milepost_gateway.following import Following
from milepost_gateway.forgetting import Forgetting
from milepost_gateway.idempotency import Idempotency
from milepost_gateway.key_store import RedisKeyStore
from milepost_gateway.leftovers import Leftovers
from milepost_gateway.polls import Polls
from milepost_gateway.reruns import Reruns
from milepost_gateway.settings import GatewaySettings
from milepost_gateway.status import Statuses
from milepost_gateway.store import RedisFleetStore, RedisStatusStore, RedisWebhookLog
from milepost_gateway.submission import Acceptance
from milepost_gateway.tailing import Tailing
from milepost_gateway.tokens import JsonWebTokens
from milepost_gateway.webhooks import Webhooks
from milepost_rabbit.cancelling import end
from milepost_service import collector
from milepost_service.callbacks import Lookup

REDIS_TIMEOUT = 1.0
CONNECTIONS = 32


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the ASGI app; it connects when it starts and closes when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis, hearing = _redis(str(settings.redis_url)), _redis(str(settings.redis_url))
        keys = Keys(namespace=settings.namespace)
        topology = Topology(namespace=settings.namespace, log_for=settings.retention)
        keyring = Keyring.parse(settings.id_keys.get_secret_value())
        broker = RabbitBroker(str(settings.rabbitmq_url), topology)
        catalogue = Catalogue(RedisFleetStore(redis, keys))
        store = RedisStatusStore(redis, keys)
        changes = RedisChanges(hearing, keys)
        statuses = Statuses(keyring=keyring, store=store, polls=Polls(store, changes), retention=settings.retention)
        reruns = Reruns(statuses=statuses, broker=broker)
        rules = AccessFile(settings.access_file)
        blobs = ObjectBlobs(settings.blobs_url, namespace=settings.namespace)
        leftovers = Leftovers(blobs=blobs, store=store, retention=settings.retention)
        admission = Admission(rules=rules, store=store)
        signing, hosts = settings.signing, Lookup(settings.callbacks)
        acceptance = Acceptance(
            keyring=keyring,
            catalogue=catalogue,
            admission=admission,
            broker=broker,
            blobs=blobs,
            callbacks=Callbacks(settings.callbacks, hosts if signing else None),
        )
        following = Following(statuses=statuses, store=store, changes=changes)
        app.state.services = Services(
            access=Access(rules=rules, tokens=JsonWebTokens(), keyring=keyring, open=settings.access_file is None),
            admission=admission,
            acceptance=acceptance,
            batches=Batches(keyring=keyring, acceptance=acceptance, store=store, retention=settings.retention),
            statuses=statuses,
            cancellation=Cancellation(statuses=statuses, following=following, broker=broker),
            idempotency=Idempotency(keyring=keyring, keys=RedisKeyStore(redis, keys), retention=settings.retention),
            following=following,
            tailing=Tailing(store=store, changes=changes, retention=settings.retention),
            reruns=reruns,
            forgetting=Forgetting(statuses=statuses, broker=broker),
            leftovers=leftovers,
            dead_letters=DeadLetters(keyring=keyring, store=store, reruns=reruns),
            webhooks=Webhooks(
                statuses=statuses, store=store, log=RedisWebhookLog(redis, keys), broker=broker, keys=signing
            ),
            blobs=blobs,
            catalogue=catalogue,
            broker=broker,
            store=store,
            limits=Limits(body=settings.max_body, upload=settings.max_upload, files=settings.max_files),
            retention=settings.retention,
            closing=app.state.closing,
        )
        broker.link.start()
        kept = (catalogue.keep_fresh(), changes.keep(), leftovers.keep())
        tasks = [asyncio.create_task(one) for one in kept]
        collector.spare()
        try:
            yield
        finally:
            await end(tasks)
            await broker.link.close()
            hosts.close()
            await redis.aclose()
            await hearing.aclose()

    return build_app(lifespan, origins=settings.cors_origins)


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Let pages of these origins ask, and read what a client needs to go on. There are no cookies."""
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
    """Return a client whose callers wait for one another: however many ask at once, Redis is not away for it."""
    return Redis.from_pool(
        BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=REDIS_TIMEOUT,
            socket_timeout=REDIS_TIMEOUT,
            socket_connect_timeout=REDIS_TIMEOUT,
            retry=Retry(NoBackoff(), 1),
        )
    )


def build_app(lifespan: Lifespan[FastAPI] | None = None, *, origins: Sequence[str] = ()) -> FastAPI:
    """Return the routes, problems and request log; whoever calls puts `Services` on `app.state.services`."""
    app = Gateway(
        title="Milepost",
        version=version("milepost-gateway"),
        summary="Hand over a long-running job, get 202 Accepted, and follow every step.",
        lifespan=lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.closing = asyncio.Event()
    if origins:
        app.add_middleware(CORSMiddleware, **cors(origins))
    problems.install(app)
    contract.install(app)
    for part in (jobs, batches, downloads, streams, websocket, dead_letters, webhooks, fleet, health):
        app.include_router(part.router)
    dashboard.install(app)
    return app
