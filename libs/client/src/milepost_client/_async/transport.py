"""HTTP under the SDK: what the gateway answers becomes a response or an error of `errors`."""

import random
from asyncio import sleep
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from milepost_client.answers import error_of, shown
from milepost_client.errors import Unavailable

REPEATABLE = ("GET",)
FIRST_PAUSE = 0.1
"""Seconds before a request is repeated; each further pause is twice as long, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 2.0
SILENCE = 20.0
"""Seconds after which a stream counts as broken; the gateway says something every 15, if only that it is there."""

Body = Callable[[], Mapping[str, Any]]


class NoStream(Exception):  # noqa: N818
    """What answers there is no stream of events: a proxy, or an old gateway."""


class AsyncTransport:
    """Sends requests to one gateway."""

    def __init__(self, base_url: str, http: httpx.AsyncClient, *, patience: timedelta) -> None:
        self.base_url = base_url.rstrip("/")
        self.patience = patience
        self._http = http

    async def send(
        self,
        method: str,
        path: str,
        *,
        repeat: bool | None = None,
        extra_time: float = 0.0,
        at_most: float | None = None,
        body: Body | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Return the response, if it is a success or a 304.

        While the gateway can't be reached, or says to come back, the request is repeated, up to `patience`.

        Args:
            method: Of the request.
            path: Of the request.
            repeat: Whether a repeat does no harm; that of a GET by default.
            extra_time: How many seconds later than usual the answer may come.
            at_most: How many seconds one is willing to wait for it in any case.
            body: Returns what httpx makes the body of, anew for each try.
            options: What else httpx takes.

        Raises:
            Refused: A problem that sending again would not change.
            Unavailable: No answer, or one that says to come back later than one is patient.
        """
        again = method in REPEATABLE if repeat is None else repeat
        until = monotonic() + self.patience.total_seconds()
        pause = FIRST_PAUSE
        while True:
            try:
                timeout = self._timeout(extra_time, at_most)
                return await self._send(method, path, timeout=timeout, **options, **(body() if body else {}))
            except Unavailable as error:
                wait = max(pause, error.retry_after if error.answered else 0.0) * random.uniform(1.0, 1.2)
                if not again or not error.passing or monotonic() + wait > until:
                    raise
            await sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _timeout(self, extra_time: float, at_most: float | None) -> httpx.Timeout:
        usual = self._http.timeout.as_dict()
        if usual["read"] is not None:
            usual["read"] += extra_time
        if at_most is not None:
            usual = {name: at_most if one is None else min(one, at_most) for name, one in usual.items()}
        return httpx.Timeout(**usual)

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, self.base_url + path, **options)
        except httpx.TransportError as error:
            raise self._away(error) from error
        kind = response.headers.get("content-type", "json")
        if response.is_success and ("json" in kind or not response.content):
            return response
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise error_of(self.base_url, response)

    @asynccontextmanager
    async def stream(self, path: str, **options: Any) -> AsyncGenerator[httpx.Response, None]:
        """Open a response whose body comes piece by piece.

        Raises:
            Refused, Unavailable: As `send` does.
        """
        try:
            async with self._http.stream("GET", self.base_url + path, **options) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of(self.base_url, response)
                yield response
        except httpx.TransportError as error:
            raise self._away(error) from error

    async def events(self, job_ids: Sequence[str], cursor: str | None) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield what happens to some jobs, behind a cursor; nothing if all have ended with it.

        Raises:
            NoStream: What answers can't tell events.
            Refused, Unavailable: As `send` does.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        usual = self._http.timeout.as_dict()
        timeout = httpx.Timeout(**usual | {"read": SILENCE})
        query = {"job": list(job_ids)}
        async with self.stream("/v1/events", params=query, headers=headers, timeout=timeout) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                return
            try:
                # What iter_sse returns is a generator, and not said to be one.
                async with aclosing(EventSource(response).aiter_sse()) as events:  # type: ignore[type-var,unused-ignore]
                    async for event in events:
                        yield event
            except SSEError as error:
                raise NoStream(str(error)) from error

    def _away(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(f"{shown(self.base_url)} can't be reached: {error or type(error).__name__}")
