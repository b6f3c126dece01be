"""A connection that reconnects: connect, set up, wait until it is lost, back off, repeat.

It uses plain aio-pika connections. A `RobustConnection` declares and consumes again with the old arguments and
offsets, which may be wrong by then.
"""

import asyncio
from collections.abc import Awaitable, Callable

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from milepost_contracts.back_off import BackOff
from milepost_rabbit.cancelling import cancel_and_wait, raise_if_cancelled

CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0
SET_UP_TIMEOUT = 60.0
"""Seconds; the first declaration of about forty replicated queues takes several."""
HEARTBEAT = 10
"""AMQP heartbeat in seconds; a peer that misses two is considered gone."""
log = structlog.get_logger(__name__)


class Link:
    """One connection to RabbitMQ, re-established whenever it is lost.

    `on_connect` sets up each new connection; the link is up once it has returned. If it raises, the connection is
    dropped and tried again.
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
        """The user of the connection; the broker rejects messages with another `user_id`."""
        return self._url.user or "guest"

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def connection(self) -> AbstractConnection | None:
        """The current connection, or `None` if the link is not up."""
        return self._connection if self.is_up else None

    async def wait_up(self) -> None:
        await self._up.wait()

    def start(self) -> None:
        """Start connecting, in the background."""
        self._task = asyncio.create_task(self._reconnect_forever(), name=f"link {self._name}")

    async def ended(self) -> None:
        """Wait until the link is closed; then `CancelledError` is raised."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Close the connection and stop reconnecting."""
        if self._task is not None:
            await cancel_and_wait([self._task])

    def drop(self, connection: AbstractConnection) -> None:
        """Drop this connection if it is the current one, because its set-up is no longer valid, and reconnect."""
        if connection is self._connection:
            self._up.clear()
            self._lost.set()

    async def watch(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        """Reconnect when the broker closes the channel or cancels its consumer: it would receive nothing any more."""

        def reconnect(*_: object) -> None:
            self.drop(connection)

        channel.close_callbacks.add(reconnect)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(reconnect)

    async def _reconnect_forever(self) -> None:
        back_off = BackOff()
        while True:
            try:
                await self._run_connection()
                back_off.reset()
                pause = back_off.next()
            except asyncio.CancelledError as error:
                raise_if_cancelled(error)
                pause = back_off.next()
                log.warning("rabbitmq_unresponsive", link=self._name)  # aio-pika cancels us if the broker hangs
            except Exception as error:  # noqa: BLE001 - only this loop reconnects
                pause = back_off.next()
                log.warning(
                    "rabbitmq_unreachable",
                    link=self._name,
                    error=str(error) or repr(error),
                    retry_in=round(pause, 1),
                )
            await asyncio.sleep(pause)

    async def _run_connection(self) -> None:
        connection = await aio_pika.connect(self._url, timeout=CONNECT_TIMEOUT)
        # `connection.closed()` resolves only for our own `close()`; a loss is reported to callbacks (aio-pika 10.2.1).
        self._lost = lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        self._connection = connection
        try:
            async with asyncio.timeout(SET_UP_TIMEOUT):
                await self._on_connect(connection)
            if lost.is_set():
                return  # it was dropped during the set-up
            self._up.set()
            log.info("rabbitmq_connected", link=self._name)
            await lost.wait()
            log.warning("rabbitmq_connection_lost", link=self._name)
        finally:
            self._up.clear()
            self._connection = None
            # A close that hangs can't be cancelled either (aio-pika 10.2.1): missed heartbeats will end it.
            closing = asyncio.ensure_future(connection.close())
            closing.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
