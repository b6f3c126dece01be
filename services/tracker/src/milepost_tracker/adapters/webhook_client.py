"""Posts webhooks over HTTP: connects only to an address that was checked just before."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import httpcore

from milepost_contracts.http.callback_urls import Address, CallbackUrl
from milepost_contracts.http.webhooks import RECEIVER_TIMEOUT
from milepost_contracts.messages.cloudevent import CONTENT_TYPE
from milepost_service.callback_urls import HostNotFound, Resolver
from milepost_tracker.ports.webhook_client import WebhookAnswer

CONNECT_TIMEOUT = 4.0
"""Seconds for each address of a host, so that there is time for another one."""
_MAX_ERROR = 300
"""Characters of an error that are kept."""


class HttpWebhookClient:
    """Implements `ports.webhook_client.WebhookClient`. Follows no redirect, keeps no connection, and reads no body."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._ssl = ssl.create_default_context()
        self._backend = httpcore.AnyIOBackend()
        self._agent = f"milepost/{version('milepost-tracker')}"

    async def post(self, callback: CallbackUrl, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        begun = time.monotonic()
        status, error = None, None
        try:
            async with asyncio.timeout(RECEIVER_TIMEOUT.total_seconds()):
                status = await self._post(callback, body, headers)
        except TimeoutError:
            error = f"no answer within {RECEIVER_TIMEOUT.total_seconds():g} s"
        except HostNotFound as found:
            error = str(found)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as found:
            error = f"{type(found).__name__}: {found}"[:_MAX_ERROR]
        return WebhookAnswer(status_code=status, error=error, milliseconds=int((time.monotonic() - begun) * 1000))

    async def _post(self, callback: CallbackUrl, body: bytes, headers: Mapping[str, str]) -> int:
        checked = _Checked(self._backend, await self._resolver.addresses(callback))
        url = httpcore.URL(
            scheme=callback.scheme.encode(),
            host=callback.host.encode(),
            port=callback.port,
            target=callback.target.encode(),
        )
        sent = [
            ("Host", _host(callback)),
            ("Content-Type", f"{CONTENT_TYPE}; charset=utf-8"),
            ("User-Agent", self._agent),
            *headers.items(),
        ]
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._ssl, network_backend=checked) as pool,
            pool.stream("POST", url, headers=sent, content=body) as response,
        ):
            return int(response.status)


def _host(callback: CallbackUrl) -> str:
    host = f"[{callback.host}]" if ":" in callback.host else callback.host
    usual = {"http": 80, "https": 443}[callback.scheme]
    return host if callback.port == usual else f"{host}:{callback.port}"


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to given addresses, whatever the host resolves to by now."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, addresses: list[Address]) -> None:
        self._backend = backend
        self._addresses = addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is the library's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del host, timeout
        failed: Exception = httpcore.ConnectError("its host has no address")
        for address in self._addresses:
            try:
                return await self._backend.connect_tcp(
                    str(address), port, CONNECT_TIMEOUT, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("a callback URL has no socket file")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
