"""The SDK's HTTP transport: retries, timeouts, event streams, and responses mapped to the errors of `errors`."""

import random
from asyncio import sleep
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from time import monotonic
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from milepost_client.answers import error_of, without_credentials
from milepost_client.errors import Unavailable
from milepost_contracts.back_off import BackOff

RETRYABLE_METHODS = ("GET",)
MAX_RETRY_DELAY = 2.0
READ_TIMEOUT = 20.0
"""Seconds without data after which a stream counts as broken; the gateway sends at least a keep-alive every 15."""

Body = Callable[[], Mapping[str, Any]]


class NoStream(Exception):  # noqa: N818
    """The response is not an event stream: it comes from a proxy, or from an older gateway."""


class AsyncTransport:
    """HTTP transport to one gateway."""

    def __init__(self, base_url: str, http: httpx.AsyncClient, *, retry_timeout: float) -> None:
        self.base_url = base_url.rstrip("/")
        #: Seconds.
        self.retry_timeout = retry_timeout
        self._http = http

    async def send(
        self,
        method: str,
        path: str,
        *,
        retry: bool | None = None,
        extra_time: float = 0.0,
        max_time: float | None = None,
        body: Body | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send a request, and return the response if it is a success or a 304.

        While the gateway can't be reached or asks to retry later, the request is retried for up to `retry_timeout`.

        Args:
            method: HTTP method.
            path: Path below the gateway's URL.
            retry: Whether the request is safe to retry; by default a GET is.
            extra_time: Seconds to add to the read timeout.
            max_time: Upper limit in seconds for each timeout.
            body: Returns the httpx options of the body, newly for each attempt.
            options: Further options of `httpx.AsyncClient.request`.

        Raises:
            Refused: The gateway refused the request; a retry would not help.
            Unavailable: There is no valid response, or the retry would be after `retry_timeout`.
        """
        retryable = method in RETRYABLE_METHODS if retry is None else retry
        until = monotonic() + self.retry_timeout
        back_off = BackOff(longest=MAX_RETRY_DELAY)
        while True:
            try:
                timeout = self._timeout(extra_time, max_time)
                return await self._send(method, path, timeout=timeout, **options, **(body() if body else {}))
            except Unavailable as error:
                retry_after = error.retry_after * random.uniform(1.0, 1.2) if error.answered else 0.0
                wait = max(back_off.next(), retry_after)
                if not retryable or not error.temporary or monotonic() + wait > until:
                    raise
            await sleep(wait)

    def _timeout(self, extra_time: float, max_time: float | None) -> httpx.Timeout:
        usual = self._http.timeout.as_dict()
        if usual["read"] is not None:
            usual["read"] += extra_time
        if max_time is not None:
            usual = {name: max_time if one is None else min(one, max_time) for name, one in usual.items()}
        return httpx.Timeout(**usual)

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, self.base_url + path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        kind = response.headers.get("content-type", "json")
        if response.is_success and ("json" in kind or not response.content):
            return response
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise error_of(self.base_url, response)

    @asynccontextmanager
    async def stream(self, path: str, **options: Any) -> AsyncGenerator[httpx.Response, None]:
        """Open a response whose body is read in chunks.

        Raises:
            Refused, Unavailable: As for `send`.
        """
        try:
            async with self._http.stream("GET", self.base_url + path, **options) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of(self.base_url, response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def events(self, job_ids: Sequence[str], cursor: str | None) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events of jobs after a cursor; none if the cursor is at the end of every job.

        Raises:
            NoStream: The response is not an event stream.
            Refused, Unavailable: As for `send`.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        usual = self._http.timeout.as_dict()
        timeout = httpx.Timeout(**usual | {"read": READ_TIMEOUT})
        query = {"job": list(job_ids)}
        async with self.stream("/v1/events", params=query, headers=headers, timeout=timeout) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                return
            try:
                # iter_sse returns a generator, but is annotated as an iterator.
                async with aclosing(EventSource(response).aiter_sse()) as events:  # type: ignore[type-var,unused-ignore]
                    async for event in events:
                        yield event
            except SSEError as error:
                raise NoStream(str(error)) from error

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(f"{without_credentials(self.base_url)} can't be reached: {error or type(error).__name__}")
