"""The driver: closed loops of HTTP/1.1 requests. It uses little CPU time, so that the cores are free for the systems.

Each connection sends its next request once it has received the response to the last one, without pipelining.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
LENGTH_HEADER = b"content-length:"


@dataclass(frozen=True)
class Response:
    status: int
    head: bytes
    body: bytes


@dataclass
class Sample:
    """The results of a loop."""

    seconds: float = 0.0
    #: The latency of each request, in seconds.
    latencies: list[float] = field(default_factory=list)
    #: Number of responses by status.
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Return the latency in seconds that this share of the requests did not exceed."""
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(share * 1000) - 1]

    def expect(self, *statuses: int) -> "Sample":
        """Return the sample; raise `RuntimeError` if a response has another status: errors are fast, and no result."""
        if unexpected := set(self.statuses) - set(statuses):
            raise RuntimeError(f"responses with status {sorted(unexpected)}: {self.statuses}")
        return self


class _Connection(asyncio.Protocol):
    """Sends one request after the other until none is left."""

    def __init__(self, requests: Iterator[bytes], on_response: Callable[[Response, float], None]) -> None:
        self._requests = requests
        self._on_response = on_response
        self._received = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        end = received.find(HEAD_END)
        if end < 0:
            return
        head = received[:end].lower()
        length = _length(head)
        if len(received) < end + 4 + length:
            return
        latency = time.perf_counter() - self._sent_at
        self._received = b""
        self._on_response(Response(int(head[9:12]), head, received[end + 4 :]), latency)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionResetError("the server closed a connection") if exc is None else exc)


async def run(
    url: str,
    requests: Iterator[bytes],
    *,
    connections: int,
    on_response: Callable[[Response], None] = lambda response: None,
) -> Sample:
    """Send all requests over so many connections, and return the results."""
    sample = Sample()

    def record(response: Response, latency: float) -> None:
        sample.latencies.append(latency)
        sample.statuses[response.status] = sample.statuses.get(response.status, 0) + 1
        on_response(response)

    address, loop = urlsplit(url), asyncio.get_running_loop()
    started_at = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: _Connection(requests, record), address.hostname, address.port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.ended for connection in opened))
    sample.seconds = time.perf_counter() - started_at
    return sample


def for_seconds(seconds: float, request: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield requests, numbered from 0, for so many seconds."""
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        yield request(number)
        number += 1


def get(path: str, *headers: str) -> bytes:
    """Return a GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]).encode()


def post(path: str, body: bytes) -> bytes:
    """Return a POST request with a JSON body."""
    headers = ("host: 127.0.0.1", "content-type: application/json", f"content-length: {len(body)}")
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + body


class HttpClient:
    """One connection for one request at a time; for requests that depend on the last response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> "HttpClient":
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port))

    async def send(self, request: bytes) -> Response:
        """Send a request and return the response."""
        self._writer.write(request)
        head = (await self._reader.readuntil(HEAD_END))[: -len(HEAD_END)].lower()
        body = await self._reader.readexactly(_length(head))
        return Response(int(head[9:12]), head, body)

    async def lines(self, request: bytes) -> AsyncIterator[bytes]:
        """Send a request and yield the lines of a streaming response, chunk sizes included."""
        self._writer.write(request)
        async for line in self._reader:
            yield line.strip()

    def close(self) -> None:
        self._writer.close()


def _length(head: bytes) -> int:
    start = head.find(LENGTH_HEADER)
    return 0 if start < 0 else int(head[start + len(LENGTH_HEADER) :].split(b"\r", 1)[0])
