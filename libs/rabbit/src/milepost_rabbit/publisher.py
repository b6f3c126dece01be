"""Publishing with confirms: `publish` returns once the message is stored; its errors say whether it may be stored.

It avoids three traps of aio-pika 10.2: a publish of an unroutable message returns normally unless the channel raises on
returns; two publishes with one AMQP `message_id` swap their outcomes; a stuck broker surfaces as `CancelledError`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from zlib import crc32

import aiormq
import aiormq.exceptions
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.back_off import BackOff
from milepost_contracts.messages.broker_objects import Exchange
from milepost_contracts.messages.cloudevent import CONTENT_TYPE
from milepost_rabbit import metrics
from milepost_rabbit.blocking import CHECK_INTERVAL, is_blocked, takes_messages, wait_unblocked
from milepost_rabbit.cancelling import raise_if_cancelled
from milepost_rabbit.errors import NotAccepted, OutcomeUnknown, RabbitError, Refused
from milepost_rabbit.link import HEARTBEAT, Link

CONFIRM_TIMEOUT = 5.0
"""Seconds for each try of `publish_until_confirmed`."""
CHANNELS = 4
"""Number of channels that all publishes share. A channel that lacks a confirm is replaced alone."""
PERSISTENT = 2
REPLACE_AFTER = 5.0
"""Seconds. A younger connection or channel is not replaced for a missing confirm.

Also the time-out of opening a new channel, and how long the old one stays open for late confirms.
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class _OpenChannel:
    channel: AbstractChannel
    #: The underlying aiormq channel: aio-pika's own waits until each message is written, which delays the next one.
    wire: aiormq.Channel
    at: float


@dataclass(frozen=True)
class _Message:
    routing_key: str
    body: bytes
    correlation_id: str
    headers: Mapping[str, str]


class RabbitPublisher:
    """Publishes over a pool of channels of one connection, which is used only for publishing.

    A resource alarm of the broker blocks publishing connections, and would block a consumer on the same one too.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        prepare: Callable[[AbstractConnection], Awaitable[None]] | None = None,
        heartbeat: int = HEARTBEAT,
    ) -> None:
        """Create a publisher; `link.start` connects it.

        Args:
            url: URL of the broker.
            name: Name of the connection, shown to the broker's operator.
            prepare: Called with each new connection before it is used, for example to declare a topology.
            heartbeat: AMQP heartbeat in seconds.
        """
        self._prepare = prepare
        self._channels: list[_OpenChannel] = []
        self._opened_at = self._confirmed_at = 0.0
        self._replacements: set[asyncio.Task[None]] = set()
        self.link = Link(url, name=name, on_connect=self._open, heartbeat=heartbeat)

    async def _open(self, connection: AbstractConnection) -> None:
        if self._prepare is not None:
            await self._prepare(connection)
        self._channels = [await self._open_channel(connection) for _ in range(CHANNELS)]
        self._opened_at = asyncio.get_running_loop().time()

    async def _open_channel(self, connection: AbstractConnection) -> _OpenChannel:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        return _OpenChannel(
            channel, cast("aiormq.Channel", await channel.get_underlay_channel()), asyncio.get_running_loop().time()
        )

    async def publish(
        self,
        exchange: Exchange,
        routing_key: str,
        body: bytes,
        *,
        correlation_id: str,
        within: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Return once the broker confirmed that every queue of Milepost that it routes to has stored the message.

        A queue of another team may have refused it, if the exchange is one to which other teams bind queues.

        Args:
            exchange: An existing exchange.
            routing_key: At most 255 bytes.
            body: A structured-mode CloudEvent.
            correlation_id: Id of the job or processor that the message is about.
            within: Time-out in seconds.
            headers: AMQP headers, for inspection.

        Raises:
            NotAccepted: Not connected, blocked or unroutable: the message is certainly not stored.
            OutcomeUnknown: It was sent, and no confirm was received; `Refused` if a queue of Milepost refused it.
        """
        deadline = asyncio.get_running_loop().time() + within
        message = _Message(routing_key, body, correlation_id, headers or {})
        try:
            await self._publish_to(exchange.name, message, deadline)
        except Refused:
            if exchange.private is None:
                raise
            await self._publish_privately(exchange.name, exchange.private, message, deadline)

    async def _publish_privately(self, public: str, private: str, message: _Message, deadline: float) -> None:
        """Publish a refused message to Milepost's own queues alone: its other copy is harmless (law 4).

        Raises:
            OutcomeUnknown: It has no confirm there either.
        """
        try:
            await self._publish_to(private, message, deadline)
        except NotAccepted as error:  # the first one may be stored nevertheless
            raise OutcomeUnknown(f"a queue refused the message, and then: {error}") from error
        metrics.refused_by_others.labels(exchange=public).inc()
        log.warning("message_refused_by_another_teams_queue", exchange=public, key=message.routing_key)

    async def _publish_to(self, exchange: str, message: _Message, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        connection = self.link.connection
        if connection is None or not takes_messages(connection):
            connection = await self._ready(deadline - loop.time())
        properties = aiormq.spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_id=f"{random.getrandbits(128):032x}",
            correlation_id=message.correlation_id,
            user_id=self.link.user,
            headers=dict(message.headers),
        )
        # Messages about one job use one channel, which keeps their order.
        channel = crc32(message.correlation_id.encode()) % len(self._channels)
        opened, begun = self._channels[channel], loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                await opened.wire.basic_publish(
                    message.body,
                    exchange=exchange,
                    routing_key=message.routing_key,
                    properties=properties,
                    mandatory=True,
                    wait=False,
                )
            self._confirmed_at = loop.time()
        except aiormq.exceptions.PublishError as error:
            raise NotAccepted(f"no queue is bound for the routing key {message.routing_key}") from error
        except aiormq.exceptions.DeliveryError as error:
            self._confirmed_at = loop.time()  # the broker responds
            raise Refused("a queue refused the message: it is full, or can't store it") from error
        except TimeoutError as error:
            if self._confirmed_at < begun:
                await self.drop_if_unresponsive(connection)
            else:
                self._replace_later(connection, opened)
            raise OutcomeUnknown("no confirm in time") from error
        except aiormq.exceptions.ChannelInvalidStateError as error:
            raise NotAccepted("the channel to the broker is closed") from error
        except asyncio.CancelledError as error:
            raise_if_cancelled(error)
            raise OutcomeUnknown("the broker does not respond") from error
        except CONNECTION_EXCEPTIONS as error:
            raise OutcomeUnknown(f"the connection was lost before the confirm: {error}") from error
        finally:
            if opened.channel.is_closed and connection.connected.is_set():
                self.link.drop(connection)

    async def publish_until_confirmed(
        self,
        exchange: Exchange,
        routing_key: str,
        body: bytes,
        *,
        correlation_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish, and retry with back-off until the message is confirmed. It may be stored more than once."""
        back_off = BackOff()
        while True:
            try:
                await self.publish(
                    exchange, routing_key, body, correlation_id=correlation_id, within=CONFIRM_TIMEOUT, headers=headers
                )
            except RabbitError as error:
                pause = back_off.next()
                log.warning(
                    "message_unconfirmed",
                    key=routing_key,
                    correlation_id=correlation_id,
                    error=str(error),
                    retry_in=round(pause, 1),
                )
                await asyncio.sleep(pause)
            else:
                return

    async def drop_if_unresponsive(self, connection: AbstractConnection) -> None:
        """Reconnect, unless the connection is new or blocked: a broker that confirms nothing may be frozen."""
        old = asyncio.get_running_loop().time() - self._opened_at >= REPLACE_AFTER
        if old and not await is_blocked(connection):
            self.link.drop(connection)

    def _replace_later(self, connection: AbstractConnection, stale: _OpenChannel) -> None:
        """Replace a channel that lacks a confirm while other channels get theirs.

        A queue leader that lost its disk for a while never confirms messages of an old channel, but does so for a new
        one (RabbitMQ 3.10).
        """
        old = asyncio.get_running_loop().time() - stale.at >= REPLACE_AFTER
        if old and stale in self._channels:
            task = asyncio.create_task(self._replace(connection, stale))
            self._replacements.add(task)
            task.add_done_callback(self._replacements.discard)

    async def _replace(self, connection: AbstractConnection, stale: _OpenChannel) -> None:
        with suppress(*CONNECTION_EXCEPTIONS, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(REPLACE_AFTER):
                fresh = await self._open_channel(connection)
            if stale in self._channels:
                self._channels[self._channels.index(stale)] = fresh
                await asyncio.sleep(REPLACE_AFTER)  # its other messages may still be confirmed
                await stale.channel.close()
            else:
                await fresh.channel.close()

    async def _ready(self, within: float) -> AbstractConnection:
        """Return the connection once it takes messages.

        Waits for half of `within` at most, so that time is left for the publish.

        Raises:
            NotAccepted: It takes no messages in that time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within / 2
        why = "not connected to the broker"
        while loop.time() < deadline:
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + CHECK_INTERVAL)):
                    await self.link.wait_up()
                    connection = self.link.connection
                    if connection is None or not connection.connected.is_set():
                        await asyncio.sleep(CHECK_INTERVAL)
                        continue
                    # This never returns if the connection is lost meanwhile, hence the short time-outs.
                    await wait_unblocked(connection)
                    return connection
            except TimeoutError:
                if self.link.is_up:
                    why = "the broker has blocked the connection: it is short of memory or disk"
        raise NotAccepted(why)
