"""Batches concurrent reads of Redis into few calls."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_CONCURRENT_CALLS = 2
"""Calls that are under way at the same time: with one, Redis and this process would wait for each other."""
BATCH_SIZE = 200
"""Reads in one call: Redis serves its other clients between two calls."""


class BatchedReads(Generic[K, V]):
    """Batches concurrent reads into few calls. Single-flight: identical reads of a batch are made once.

    A read joins a batch until the batch is sent, and never later: an answer that is under way may be older than the
    change which the caller was notified of.
    """

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Sequence[V | Exception]]]) -> None:
        """Use `read` for a batch: it returns a value or an error for each key, or raises for all of them."""
        self._read = read
        self._wanted: dict[K, list[asyncio.Future[V]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V:
        """Return what a batch reads of this key, or raise its error."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V] = loop.create_future()
        self._wanted.setdefault(key, []).append(answer)
        if len(self._wanted) == 1:
            loop.call_soon(self._send)
        return await answer

    def _send(self) -> None:
        if self._wanted and len(self._calls) < MAX_CONCURRENT_CALLS:
            batch = dict(itertools.islice(self._wanted.items(), BATCH_SIZE))
            self._wanted = dict(itertools.islice(self._wanted.items(), BATCH_SIZE, None))
            call = asyncio.create_task(self._answer(batch))
            self._calls.add(call)
            call.add_done_callback(self._answered)

    def _answered(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _answer(self, batch: dict[K, list[asyncio.Future[V]]]) -> None:
        found: dict[K, V | Exception]
        try:
            found = dict(zip(batch, await self._read(list(batch)), strict=True))
        except Exception as error:  # noqa: BLE001 - every caller raises it
            found = dict.fromkeys(batch, error)
        for key, answers in batch.items():
            value = found[key]
            for answer in answers:
                if answer.done():  # its caller was cancelled
                    continue
                if isinstance(value, Exception):
                    answer.set_exception(value)
                else:
                    answer.set_result(value)
