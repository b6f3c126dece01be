"""Proxies before replicated servers: a load balancer for RabbitMQ's nodes, a switch for Redis."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from milepost_stack.free_ports import any_port

FIRST_ANSWER_TIMEOUT = 1.0
"""Seconds after which a server that accepts a connection and sends nothing counts as frozen."""
CHUNK = 65_536

Address = tuple[str, int]
T = TypeVar("T")


class Switch:
    """Forwards each connection to the first server that answers the client's first bytes."""

    def __init__(self, servers: Sequence[Address]) -> None:
        """Listen on a free port.

        Args:
            servers: Tried in order; each connection starts with the next one.
        """
        self.port = any_port()
        self.servers = list(servers)
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._clients: dict[asyncio.StreamWriter, None] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="switch", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._forward, "127.0.0.1", self.port))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def point_at(self, servers: Sequence[Address], *, cut_every: int = 1) -> None:
        """Forward new connections to other servers; cut open connections: all of them, or every second."""

        async def cut() -> None:
            self.servers = list(servers)
            for writer in list(self._clients)[::cut_every]:
                writer.close()

        self._run(cut())

    def close(self) -> None:
        """Stop listening, and cut all connections."""

        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.1)  # transports close their sockets in the next iterations of the loop

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = None
        try:
            first = await reader.read(CHUNK)
            self._connections += 1
            for n in range(len(self.servers)):
                address = self.servers[(self._connections + n) % len(self.servers)]
                with suppress(OSError, TimeoutError):
                    if await self._connected(first, reader, writer, address):
                        return
        finally:
            self._clients.pop(writer)
            writer.close()

    async def _connected(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
    ) -> bool:
        """Forward until the client or the server closes; return False if the server never answered."""
        async with asyncio.timeout(FIRST_ANSWER_TIMEOUT) as timeout:
            from_server, to_server = await asyncio.open_connection(*address)
            try:
                to_server.write(first)
                answer = await from_server.read(CHUNK)
                timeout.reschedule(None)
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
                to_server.close()
        return True


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
