"""Webhooks (Standard Webhooks 1.0): which URLs may be called back, with which secrets, and what is told of it.

A URL that somebody hands over leads a service of ours to wherever it says: so https only, to global addresses only,
but for networks that the operator has named. Whoever connects does so to an address that `CallbackRule` has taken.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

import pydantic_core
from pydantic import AwareDatetime

from milepost_contracts.delay import delay_words
from milepost_contracts.errors import RefusedCallback, WeakKeyring
from milepost_contracts.events import JobEvent, encode_event
from milepost_contracts.ids import SigningKey
from milepost_contracts.topology import TELL
from milepost_contracts.values import MAX_CALLBACK_URL, Job, Value

RETRY_AFTER = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""How long after each failed try the next one comes: a little more than three days in all."""
ANSWER_WITHIN = timedelta(seconds=15)
"""How long a receiver may take."""
LAST_DELIVERIES = 100
"""How many of a job's latest tries are told."""
TRIES, ASKED, PUT_OFF = "x-tries", "x-asked", "x-put-off"
"""AMQP headers of a webhook on its way: how often it was tried before, whether somebody asked for it again, and how
often it was put off since, for its host or its tenant had enough on its way."""

PORTS = "80,443,8443"
"""Where a callback URL may lead, where nobody says otherwise."""
_SECRET = 32

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
PortRange = tuple[int, int]

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?([/?][!-~]*)?")
_SPECIAL: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # what a machine in Azure asks about itself
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A callback URL, taken apart once: what is checked is what is connected to."""

    scheme: str
    #: A name, or an address without brackets.
    host: str
    port: int
    #: Path and query.
    target: str


@dataclass(frozen=True, kw_only=True)
class CallbackRule:
    """Where callback URLs may lead."""

    #: Networks of one's own that they may lead into, by http too.
    networks: tuple[Network, ...] = ()
    #: The first and the last of each range.
    ports: tuple[PortRange, ...] = ()

    def read(self, url: str) -> Callback:
        """Take a URL apart.

        Raises:
            RefusedCallback: It is no URL that may be called back; says why.
        """
        found = _URL.fullmatch(url)
        if found is None or len(url) > MAX_CALLBACK_URL or "\\" in url or "#" in url:
            raise RefusedCallback(f"{_why_not(url)}; it may look like https://example.com/hooks?job=7")
        scheme, host, port, target = found.groups()
        if scheme == "http" and not self.networks:
            raise RefusedCallback("it must begin with https://")
        callback = Callback(
            scheme=scheme,
            host=host.strip("[]").lower(),
            port=int(port) if port else {"http": 80, "https": 443}[scheme],
            target=target if target and target.startswith("/") else f"/{target or ''}",
        )
        if not any(first <= callback.port <= last for first, last in self.ports):
            raise RefusedCallback(f"callbacks to port {callback.port} are not allowed here")
        return callback

    def take(self, callback: Callback, address: str) -> Address:
        """Return an address that the host was found at, if it may be connected to.

        Raises:
            RefusedCallback: It may not.
        """
        found = _unwrapped(ip_address(address.partition("%")[0]))
        if any(found in network for network in self.networks if network.version == found.version):
            return found
        if callback.scheme == "http":
            raise RefusedCallback("http leads only into networks that were allowed by name; use https")
        if not found.is_global or found.is_multicast or found.is_reserved or _is_special(found):
            raise RefusedCallback("its host is in a private or special network")
        return found


def _why_not(url: str) -> str:
    if len(url) > MAX_CALLBACK_URL:
        return f"it has more than {MAX_CALLBACK_URL} characters"
    if not re.fullmatch(r"[!-~]*", url) or "\\" in url:
        return "it has blanks, backslashes or characters beyond ASCII"
    if not url.startswith(("https://", "http://")):
        return "it does not begin with https://"
    if "#" in url:
        return "it has a fragment"
    authority = re.split(r"[/?]", url.partition("://")[2], maxsplit=1)[0]
    return "it has a user or a password" if "@" in authority else "its host or its port is none"


def _is_special(address: Address) -> bool:
    """Whether it leads inside though it counts as global, or is not known to lead nowhere before Python 3.13."""
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return site_local or any(address in network for network in _SPECIAL if network.version == address.version)


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
        teredo = address.teredo
        return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
    return address


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """Read `443,8000-8999`.

    Raises:
        ValueError: It is not such a list.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65_535:  # noqa: PLR2004 - the highest port
            raise ValueError(f"{part!r} is no port and no range of ports, such as 443 or 8000-8999")
        found.append((first, last))
    return tuple(found)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read `10.1.0.0/16,fd00::/8`.

    Raises:
        ValueError: It is not such a list.
    """
    found = tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    for network in found:
        if isinstance(network, IPv6Network) and network.overlaps(_MAPPED):
            raise ValueError(f"{network} has IPv4 addresses in it: write those as IPv4")
    return found


class WebhookKeys:
    """What the secrets of all tenants follow from; to rotate, a new key is put in front for a while."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(keys)

    def secrets(self, tenant: str) -> tuple[str, ...]:
        """Return the secrets of a tenant's webhooks, newest first: `whsec_…`."""
        return tuple(f"whsec_{base64.b64encode(self._secret(key, tenant)).decode()}" for key in self._keys)

    @staticmethod
    def _secret(key: SigningKey, tenant: str) -> bytes:
        return hmac.digest(key.secret, f"milepost-webhook {tenant}".encode(), sha256)[:_SECRET]


def parse_webhook_keys(text: str) -> WebhookKeys | None:
    """Read `NUMBER:HEX[,NUMBER:HEX…]`, newest first; nothing of an empty text.

    Raises:
        WeakKeyring: They can't be used.
    """
    keys = SigningKey.parse_all(text)
    for key in keys:
        if len(key.secret) < _SECRET:
            raise WeakKeyring(f"webhook key {key.number} has {len(key.secret)} bytes; it needs {_SECRET}")
    return WebhookKeys(keys) if keys else None


Outcome = Literal["delivered", "failed", "gone", "disabled", "refused"]


class WebhookTry(Value):
    """One try to deliver a webhook."""

    #: `webhook-id`: the CloudEvent's id, the same for every try.
    webhook_id: str
    #: What happened to the job, in the past tense: `succeeded`.
    event: str
    #: 1 for the first.
    number: int
    #: Whether somebody asked for it, by a redelivery.
    asked: bool = False
    at: AwareDatetime
    #: `delivered`; `failed`, and tried again at `next_at` if it says one; `gone`: the receiver answered 410 and gets no
    #: more webhooks; `disabled`: it has answered 410 before; `refused`: its URL may not be called.
    outcome: Outcome
    #: What the receiver answered.
    status_code: int | None = None
    #: Why there was no answer.
    error: str | None = None
    duration_ms: int | None = None
    next_at: AwareDatetime | None = None


class WebhookTries(Value):
    """What became of a job's webhooks, as far as it is remembered."""

    url: str
    #: Oldest first; the latest 100.
    items: tuple[WebhookTry, ...]


def render(event: JobEvent) -> bytes:
    """Return the body of a webhook: the CloudEvent as it travels, with what Standard Webhooks calls `timestamp`."""
    return encode_event(event)[:-1] + b',"timestamp":%b}' % pydantic_core.to_json(event.time)


def routing_key(job: Job, *, after: timedelta) -> str:
    """Return the routing key of a webhook that is to be sent after so long."""
    return f"{TELL}.{job.queue}.{job.type}.{delay_words(after)}"


class WebhookSecrets(Value):
    #: Newest first; while there are two, each webhook is signed with both.
    items: tuple[str, ...]
