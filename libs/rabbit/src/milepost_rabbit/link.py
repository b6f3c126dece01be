"""A connection that is kept: connect, set up, wait until it is lost, back off, again.

Plain aio-pika connections rather than robust ones: those declare and consume again by themselves, with arguments
and offsets that are no longer right (aio-pika `RobustConnection`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from milepost_rabbit.cancelling import end, raise_if_ours

CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0
SET_UP_WITHIN = 60.0
"""Seconds; the first declaration of some forty replicated queues takes a few."""
HEARTBEAT = 10
"""Seconds between signs of life; after two missed ones a peer counts as gone."""
BACK_OFF = (0.1, 5.0)
"""The first and the longest pause between tries, in seconds."""

log = structlog.get_logger(__name__)


class Link:
    """One connection to RabbitMQ, made again whenever it is lost.

    `on_connect` sets the connection up; the link counts as up only once it returned. It is called anew for every
    connection, and an error it raises drops that connection and tries again.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        on_connect: Callable[[AbstractConnection], Awaitable[None]],
        heartbeat: int = HEARTBEAT,
    ) -> None:
        self._url = URL(url).update_query(heartbeat=heartbeat, name=name)
        self._name = name
        self._on_connect = on_connect
        self._connection: AbstractConnection | None = None
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def user(self) -> str:
        """The user that the broker knows us as; it refuses messages that claim another."""
        return self._url.user or "guest"

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def connection(self) -> AbstractConnection | None:
        """The present connection, if the link is up."""
        return self._connection if self.is_up else None

    async def wait_up(self) -> None:
        await self._up.wait()

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._task = asyncio.create_task(self._keep(), name=f"link {self._name}")

    async def ended(self) -> None:
        """Wait for as long as the link is kept."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Close the connection and stop connecting."""
        if self._task is not None:
            await end([self._task])

    def drop(self, connection: AbstractConnection) -> None:
        """Give this connection up, if it is the present one: its set-up is no longer true. A new one follows."""
        if connection is self._connection:
            self._up.clear()
            self._lost.set()

    async def watch(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        """Begin anew when the broker closes the channel or cancels its consumer: nothing would ever arrive again."""

        def begin_anew(*_: object) -> None:
            self.drop(connection)

        channel.close_callbacks.add(begin_anew)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(begin_anew)

    async def _keep(self) -> None:
        shortest, longest = BACK_OFF
        pause = shortest
        while True:
            try:
                await self._hold_one()
                pause = shortest
            except asyncio.CancelledError as error:
                raise_if_ours(error)
                log.warning("rabbitmq_stuck", link=self._name)  # aio-pika cancels us when a broker hangs
            except Exception as error:  # noqa: BLE001 - whatever it was: this loop is all that reconnects
                log.warning(
                    "rabbitmq_unreachable",
                    link=self._name,
                    error=str(error) or repr(error),
                    retry_in=round(pause, 1),
                )
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(longest, pause * 2)

    async def _hold_one(self) -> None:
        connection = await aio_pika.connect(self._url, timeout=CONNECT_TIMEOUT)
        # `connection.closed()` resolves for our own `close()` alone: of a loss only callbacks tell (aio-pika 10.2.1).
        self._lost = lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        self._connection = connection
        try:
            async with asyncio.timeout(SET_UP_WITHIN):
                await self._on_connect(connection)
            if lost.is_set():
                return  # it was dropped while it was being set up
            self._up.set()
            log.info("rabbitmq_connected", link=self._name)
            await lost.wait()
            log.warning("rabbitmq_connection_lost", link=self._name)
        finally:
            self._up.clear()
            self._connection = None
            # A close that hangs can't be cancelled either (aio-pika 10.2.1): it is left to its heartbeats.
            closing = asyncio.ensure_future(connection.close())
            closing.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
