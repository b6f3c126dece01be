"""What stands before servers of which there are several: a load balancer for RabbitMQ's nodes, a switch for Redis."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from milepost_stack.ports import any_port

ANSWERS_WITHIN = 1.0
"""Seconds after which a server that takes a connection and says nothing counts as frozen."""
CHUNK = 65_536

Address = tuple[str, int]
T = TypeVar("T")


class Switch:
    """Passes each connection on to the first server that answers the client's first words."""

    def __init__(self, servers: Sequence[Address]) -> None:
        """Listen on a free port.

        Args:
            servers: Tried in turn, each connection beginning with another one.
        """
        self.port = any_port()
        self.servers = list(servers)
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="switch", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._pass_on, "127.0.0.1", self.port))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def point_at(self, servers: Sequence[Address]) -> None:
        """Pass connections on to other servers from now on; those that are open are cut."""

        async def cut() -> None:
            self.servers = list(servers)
            for writer in list(self._open):
                writer.close()

        self._run(cut())

    def close(self) -> None:
        """Stop listening, and cut what is open."""

        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.1)  # transports close their sockets in the next turns of the loop

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            first = await reader.read(CHUNK)
            self._turn += 1
            for n in range(len(self.servers)):
                address = self.servers[(self._turn + n) % len(self.servers)]
                with suppress(OSError, TimeoutError):
                    if await self._joined(first, reader, writer, address):
                        return
        finally:
            self._open.discard(writer)
            writer.close()

    async def _joined(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
    ) -> bool:
        """Join the client and this server until one of them goes away; false if the server never answered."""
        async with asyncio.timeout(ANSWERS_WITHIN) as patience:
            from_server, to_server = await asyncio.open_connection(*address)
            self._open.add(to_server)
            try:
                to_server.write(first)
                answer = await from_server.read(CHUNK)
                patience.reschedule(None)
                if not answer:
                    return False
                writer.write(answer)
                both = [
                    asyncio.create_task(_copy(reader, to_server)),
                    asyncio.create_task(_copy(from_server, writer)),
                ]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for task in both:
                    task.cancel()
            finally:
                self._open.discard(to_server)
                to_server.close()
        return True


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
