"""What gateway and tracker agree on of callback URLs: the settings, and where a host leads at this moment."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.webhooks import (
    PORTS,
    Address,
    Callback,
    CallbackRule,
    Network,
    PortRange,
    WebhookKeys,
    parse_networks,
    parse_ports,
    parse_webhook_keys,
)
from milepost_service.settings import ServiceSettings

FOUND_WITHIN = timedelta(seconds=2)
"""How long the host of a callback URL may take to be found."""
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}  # not everywhere
_THREADS = 8
"""Look-ups block; names that take long must not hold up those of the service's own servers."""

#: As `socket.getaddrinfo`: addresses of a host as text, blocking.
FindHost = Callable[[str], list[str]]


class HostNotFound(Exception):  # noqa: N818 - named as the condition
    """The host has no address, or nobody can say now."""

    def __init__(self, why: str, *, for_certain: bool) -> None:
        super().__init__(why)
        #: Whether there is no such host; else it may be found later.
        self.for_certain = for_certain


def _networks(value: Any) -> Any:
    return parse_networks(value) if isinstance(value, str) else value


def _ports(value: Any) -> Any:
    return parse_ports(value) if isinstance(value, str) else value


class CallbackSettings(ServiceSettings):
    """What whoever takes callback URLs reads, and whoever calls them: the same for both."""

    #: What the secrets of webhooks follow from, `NUMBER:HEX[,NUMBER:HEX…]`, newest first. Without it there are none.
    webhook_keys: SecretStr = SecretStr("")
    #: Private networks that callback URLs may lead into, by http too: `10.1.0.0/16,…`
    webhook_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    #: The ports that they may lead to: `443,8000-8999`.
    webhook_ports: Annotated[tuple[PortRange, ...], NoDecode, BeforeValidator(_ports)] = Field(
        default=parse_ports(PORTS), min_length=1
    )

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
        """The keys, if there are any."""
        return parse_webhook_keys(self.webhook_keys.get_secret_value())

    @property
    def callbacks(self) -> CallbackRule:
        """Where callback URLs may lead."""
        return CallbackRule(networks=self.webhook_networks, ports=self.webhook_ports)


class Lookup:
    """Finds where a callback leads, and refuses what it may not lead to."""

    def __init__(self, rule: CallbackRule, *, find: FindHost | None = None) -> None:
        self._rule = rule
        self._find = find or _find
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callback look-up")

    async def addresses(self, callback: Callback) -> list[Address]:
        """Return every address that the host has now.

        Raises:
            RefusedCallback: One of them may not be connected to.
            HostNotFound: It has none, or nobody says so in time.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(FOUND_WITHIN.total_seconds()):
                found = await loop.run_in_executor(self._threads, self._find, callback.host)
        except TimeoutError as error:
            raise HostNotFound("its host was not found in time", for_certain=False) from error
        except socket.gaierror as error:
            certain = error.errno in _NO_SUCH_HOST
            why = "its host is not known" if certain else "its host can't be found now"
            raise HostNotFound(why, for_certain=certain) from error
        except UnicodeError as error:
            raise HostNotFound("its host is no name that there could be", for_certain=True) from error
        return [self._rule.take(callback, address) for address in found]

    def close(self) -> None:
        """Give up what is still being looked for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _find(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
