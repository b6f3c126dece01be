"""Callback URLs, for the gateway and the tracker: the settings, and the resolver of hosts."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.http.callback_urls import (
    DEFAULT_PORTS,
    Address,
    CallbackPolicy,
    CallbackUrl,
    Network,
    PortRange,
    parse_networks,
    parse_ports,
)
from milepost_contracts.http.webhooks import WebhookKeys, parse_webhook_keys
from milepost_service.settings import ServiceSettings

RESOLVE_TIMEOUT = timedelta(seconds=2)
"""Time-out of the name resolution of a host."""
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}  # not on all platforms
_THREADS = 8
"""Name resolution blocks: slow hosts must not delay that of the service's own servers, in the default executor."""

#: Returns the addresses of a host as text; blocks, and raises what `socket.getaddrinfo` does.
FindHost = Callable[[str], list[str]]


class HostNotFound(Exception):  # noqa: N818 - named as the condition
    """The host has no address, or name resolution failed."""

    def __init__(self, why: str, *, permanent: bool) -> None:
        super().__init__(why)
        #: Whether the host does not exist; otherwise a later try may find it.
        self.permanent = permanent


def _networks(value: Any) -> Any:
    return parse_networks(value) if isinstance(value, str) else value


def _ports(value: Any) -> Any:
    return parse_ports(value) if isinstance(value, str) else value


class CallbackSettings(ServiceSettings):
    """Settings for webhooks, the same for the gateway and the tracker."""

    webhook_keys: SecretStr = SecretStr("")
    """Keys from which webhook secrets are derived: `NUMBER:HEX[,NUMBER:HEX…]`, newest first. Without: no webhooks."""
    webhook_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    """Private networks that callback URLs may point to, also with http: `10.1.0.0/16,…`"""
    webhook_ports: Annotated[tuple[PortRange, ...], NoDecode, BeforeValidator(_ports)] = Field(
        default=parse_ports(DEFAULT_PORTS), min_length=1
    )
    """Ports that callback URLs may have: `443,8000-8999`."""

    @field_validator("webhook_keys")
    @classmethod
    def _usable_webhook_keys(cls, value: SecretStr) -> SecretStr:
        try:
            parse_webhook_keys(value.get_secret_value())
        except WeakKeyring as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def signing(self) -> WebhookKeys | None:
        """The webhook keys, or `None`."""
        return parse_webhook_keys(self.webhook_keys.get_secret_value())

    @property
    def callback_policy(self) -> CallbackPolicy:
        """The policy for callback URLs."""
        return CallbackPolicy(networks=self.webhook_networks, ports=self.webhook_ports)


class Resolver:
    """Resolves the hosts of callback URLs, and checks their addresses against the policy."""

    def __init__(self, policy: CallbackPolicy, *, find: FindHost | None = None) -> None:
        self._policy = policy
        self._find = find or _find
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callback-resolver")

    async def addresses(self, callback: CallbackUrl) -> list[Address]:
        """Return all current addresses of the host.

        Raises:
            RefusedCallback: The policy forbids one of them.
            HostNotFound: The host has no address, or name resolution failed or timed out.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT.total_seconds()):
                found = await loop.run_in_executor(self._threads, self._find, callback.host)
        except TimeoutError as error:
            raise HostNotFound("its host was not resolved in time", permanent=False) from error
        except socket.gaierror as error:
            certain = error.errno in _NO_SUCH_HOST
            why = "its host does not exist" if certain else "its host can't be resolved now"
            raise HostNotFound(why, permanent=certain) from error
        except UnicodeError as error:
            raise HostNotFound("its host is not a valid name", permanent=True) from error
        return [self._policy.take(callback, address) for address in found]

    def close(self) -> None:
        """Cancel pending name resolutions."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _find(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
