"""The gateway's app over fakes of its ports: HTTP without sockets."""

from datetime import timedelta

import httpx
import pytest
from gateway_fakes.access_rules import FakeAccessRules
from gateway_fakes.blob_store import FakeBlobStore
from gateway_fakes.broker import FakeBroker
from gateway_fakes.change_feed import FakeChangeFeed
from gateway_fakes.host_resolver import FakeResolver
from gateway_fakes.idempotency_store import FakeIdempotencyStore
from gateway_fakes.job_index import FakeJobIndex
from gateway_fakes.params_validator import FakeParamsValidator
from gateway_fakes.poison_store import FakePoisonStore
from gateway_fakes.status_store import FakeStatusStore
from gateway_fakes.token_verifier import FakeTokenVerifier
from gateway_fakes.view import RETENTION, FakeView
from gateway_fakes.webhook_log import FakeWebhookLog
from gateway_fakes.worker_store import FakeWorkerStore

from milepost_contracts.http.callback_urls import DEFAULT_PORTS, CallbackPolicy, parse_ports
from milepost_contracts.http.webhooks import WebhookKeys
from milepost_contracts.ids import Keyring, SigningKey
from milepost_gateway.adapters.redis.hot_cache import HotCache
from milepost_gateway.api.requests import BodyLimits
from milepost_gateway.bootstrap import Adapters, Policy, build_app, wire
from milepost_service.callback_urls import Resolver
from milepost_service.sealing import Sealer

KEYRING = Keyring([SigningKey(number=1, secret=b"s" * 32)])
CALLBACK_POLICY = CallbackPolicy(ports=parse_ports(DEFAULT_PORTS))
SEALER = Sealer([SigningKey(number=1, secret=b"s" * 32)])
WEBHOOK_KEYS = WebhookKeys([SigningKey(number=1, secret=b"w" * 32)])


@pytest.fixture
def view():
    return FakeView()


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def blob_store():
    return FakeBlobStore()


@pytest.fixture
def idempotency_store():
    return FakeIdempotencyStore()


@pytest.fixture
def worker_store(view):
    return FakeWorkerStore(view)


@pytest.fixture
def webhook_log(view):
    return FakeWebhookLog(view)


@pytest.fixture
def params_validator():
    return FakeParamsValidator()


@pytest.fixture
def poison_store(view):
    return FakePoisonStore(view)


@pytest.fixture
def resolver():
    return FakeResolver()


@pytest.fixture
def rules():
    return FakeAccessRules()


@pytest.fixture
def tokens():
    return FakeTokenVerifier()


@pytest.fixture
def keyring():
    return KEYRING


@pytest.fixture
def projection_timeout():
    """How long the gateway waits for a tracker; a test overrides it with `parametrize`."""
    return timedelta(milliseconds=1)


@pytest.fixture
def app(
    view,
    broker,
    blob_store,
    idempotency_store,
    worker_store,
    webhook_log,
    params_validator,
    poison_store,
    rules,
    tokens,
    resolver,
    projection_timeout,
):
    change_feed = FakeChangeFeed(view)
    adapters = Adapters(
        access_rules=rules,
        blob_store=blob_store,
        broker=broker,
        change_feed=change_feed,
        host_resolver=Resolver(CALLBACK_POLICY, find=resolver),
        idempotency_store=idempotency_store,
        job_index=FakeJobIndex(view),
        params_validator=params_validator,
        poison_store=poison_store,
        status_store=HotCache(FakeStatusStore(view), change_feed),
        token_verifier=tokens,
        webhook_log=webhook_log,
        worker_store=worker_store,
    )
    policy = Policy(
        keyring=KEYRING,
        sealer=SEALER,
        webhook_keys=WEBHOOK_KEYS,
        callback_policy=CALLBACK_POLICY,
        retention=RETENTION,
        limits=BodyLimits(body=100_000, upload=200_000, files=5),
        open=rules.access is None,
        projection_timeout=projection_timeout,
    )
    made = build_app()
    made.state.dependencies = wire(adapters, policy, closing=made.state.closing)
    return made


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client
