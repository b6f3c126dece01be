"""The one driver: closed loops of HTTP/1.1 requests, cheap enough to leave the cores to what is measured.

Each connection sends its next request once it has the answer to the last one. Nothing is pipelined.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes


@dataclass
class Sample:
    """What a loop has seen."""

    seconds: float = 0.0
    #: Of each request, in seconds.
    latencies: list[float] = field(default_factory=list)
    #: How many answers had which status.
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, at: float) -> float:
        """Return the latency that this share of all requests did not exceed, in seconds."""
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(at * 1000) - 1]

    def expect(self, *statuses: int) -> "Sample":
        """Return the sample, if every answer was one of these: refusals are quick, and no achievement."""
        if strange := set(self.statuses) - set(statuses):
            raise RuntimeError(f"answers with status {sorted(strange)}: {self.statuses}")
        return self


class _Connection(asyncio.Protocol):
    """Sends one request after the other, for as long as there are some."""

    def __init__(self, requests: Iterator[bytes], answered: Callable[[Answer, float], None]) -> None:
        self._requests = requests
        self._answered = answered
        self._received = b""
        self._sent_at = 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            if not self.over.done():
                self.over.set_result(None)
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
        took = time.perf_counter() - self._sent_at
        self._received = b""
        self._answered(Answer(int(head[9:12]), head, received[end + 4 :]), took)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(ConnectionResetError("the server closed a connection") if exc is None else exc)


async def run(
    url: str,
    requests: Iterator[bytes],
    *,
    connections: int,
    answered: Callable[[Answer], None] = lambda answer: None,
) -> Sample:
    """Send all these requests over so many connections, and return what came of it."""
    sample = Sample()

    def note(answer: Answer, took: float) -> None:
        sample.latencies.append(took)
        sample.statuses[answer.status] = sample.statuses.get(answer.status, 0) + 1
        answered(answer)

    where, loop = urlsplit(url), asyncio.get_running_loop()
    begun = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: _Connection(requests, note), where.hostname, where.port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.over for one in opened))
    sample.seconds = time.perf_counter() - begun
    return sample


def for_seconds(seconds: float, request: Callable[[int], bytes]) -> Iterator[bytes]:
    """Make requests, numbered from 0, until time is over."""
    until, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        yield request(number)
        number += 1


def get(path: str, *headers: str) -> bytes:
    """Spell a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]).encode()


def post(path: str, body: bytes) -> bytes:
    """Spell a POST of JSON."""
    headers = ("host: 127.0.0.1", "content-type: application/json", f"content-length: {len(body)}")
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + body


class Caller:
    """One connection, for one request at a time, where an answer decides what is asked next."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> "Caller":
        where = urlsplit(url)
        return cls(*await asyncio.open_connection(where.hostname, where.port))

    async def ask(self, request: bytes) -> Answer:
        """Send a request and return its answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(HEAD_END))[: -len(HEAD_END)].lower()
        body = await self._reader.readexactly(_length(head))
        return Answer(int(head[9:12]), head, body)

    async def lines(self, request: bytes) -> AsyncIterator[bytes]:
        """Send a request and yield the lines of an answer that goes on and on; chunk sizes are among them."""
        self._writer.write(request)
        async for line in self._reader:
            yield line.strip()

    def close(self) -> None:
        self._writer.close()


def _length(head: bytes) -> int:
    at = head.find(LENGTH)
    return 0 if at < 0 else int(head[at + len(LENGTH) :].split(b"\r", 1)[0])
