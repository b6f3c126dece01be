"""An app made of the fakes in `gateway_fakes`: HTTP without sockets."""

from datetime import timedelta

import httpx
import pytest
from gateway_fakes import (
    RETENTION,
    FakeBlobs,
    FakeBroker,
    FakeHosts,
    FakeKeyStore,
    FakeRules,
    FakeStore,
    FakeTokens,
)

from milepost_contracts.ids import Keyring, SigningKey
from milepost_contracts.webhooks import PORTS, CallbackRule, WebhookKeys, parse_ports
from milepost_gateway.access import Access
from milepost_gateway.admission import Admission
from milepost_gateway.api.requests import Limits
from milepost_gateway.api.services import Services
from milepost_gateway.batches import Batches
from milepost_gateway.bootstrap import build_app
from milepost_gateway.callbacks import Callbacks
from milepost_gateway.cancellation import Cancellation
from milepost_gateway.catalogue import Catalogue
from milepost_gateway.dead_letters import DeadLetters
from milepost_gateway.following import Following
from milepost_gateway.forgetting import Forgetting
from milepost_gateway.idempotency import Idempotency
from milepost_gateway.leftovers import Leftovers
from milepost_gateway.polls import Polls
from milepost_gateway.reruns import Reruns
from milepost_gateway.status import Statuses
from milepost_gateway.submission import Acceptance
from milepost_gateway.tailing import Tailing
from milepost_gateway.webhooks import Webhooks
from milepost_service.callbacks import Lookup

KEYRING = Keyring([SigningKey(number=1, secret=b"s" * 32)])
RULE = CallbackRule(ports=parse_ports(PORTS))
WEBHOOK_KEYS = WebhookKeys([SigningKey(number=1, secret=b"w" * 32)])


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def blobs():
    return FakeBlobs()


@pytest.fixture
def key_store():
    return FakeKeyStore()


@pytest.fixture
def keyring():
    return KEYRING


@pytest.fixture
def hosts():
    return FakeHosts()


@pytest.fixture
def rules():
    return FakeRules()


@pytest.fixture
def tokens():
    return FakeTokens()


@pytest.fixture
def seen_within():
    """How long a tracker is waited for; a test that wants more says so by `parametrize`."""
    return timedelta(milliseconds=1)


@pytest.fixture
def app(broker, store, blobs, key_store, rules, tokens, hosts, seen_within):
    catalogue = Catalogue(store)
    statuses = Statuses(keyring=KEYRING, store=store, polls=Polls(store, store), retention=RETENTION)
    made = build_app()
    reruns = Reruns(statuses=statuses, broker=broker)
    following = Following(statuses=statuses, store=store, changes=store, seen_within=seen_within)
    admission = Admission(rules=rules, store=store)
    acceptance = Acceptance(
        keyring=KEYRING,
        catalogue=catalogue,
        admission=admission,
        broker=broker,
        blobs=blobs,
        callbacks=Callbacks(RULE, Lookup(RULE, find=hosts)),
    )
    made.state.services = Services(
        access=Access(rules=rules, tokens=tokens, keyring=KEYRING, open=rules.access is None),
        admission=admission,
        acceptance=acceptance,
        batches=Batches(keyring=KEYRING, acceptance=acceptance, store=store, retention=RETENTION),
        statuses=statuses,
        cancellation=Cancellation(statuses=statuses, following=following, broker=broker),
        following=following,
        idempotency=Idempotency(keyring=KEYRING, keys=key_store, retention=RETENTION),
        tailing=Tailing(store=store, changes=store, retention=RETENTION),
        reruns=reruns,
        forgetting=Forgetting(statuses=statuses, broker=broker),
        leftovers=Leftovers(blobs=blobs, store=store, retention=RETENTION),
        dead_letters=DeadLetters(keyring=KEYRING, store=store, reruns=reruns),
        webhooks=Webhooks(statuses=statuses, store=store, log=store, broker=broker, keys=WEBHOOK_KEYS),
        blobs=blobs,
        catalogue=catalogue,
        broker=broker,
        store=store,
        limits=Limits(body=100_000, upload=200_000, files=5),
        retention=RETENTION,
        closing=made.state.closing,
    )
    return made


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client
