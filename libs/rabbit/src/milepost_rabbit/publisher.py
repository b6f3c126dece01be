"""The one confirmed publisher: what it returns from is stored by the broker; what it raises says how sure that is not.

Traps of aio-pika 10.2 that this closes: an unroutable message returns normally unless the channel raises on returns;
two publishes with one AMQP `message_id` swap their outcomes; a stuck broker surfaces as `CancelledError`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from zlib import crc32

import aiormq
import aiormq.exceptions
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.envelope import CONTENT_TYPE
from milepost_contracts.topology import Exchange
from milepost_rabbit.cancelling import raise_if_ours
from milepost_rabbit.errors import NotAccepted, OutcomeUnknown, RabbitError
from milepost_rabbit.link import BACK_OFF, HEARTBEAT, Link

CONFIRM_WITHIN = 5.0
"""Seconds for each try of what is published until it is confirmed."""
CHANNELS = 4
"""Publishes share few channels: whoever loses a confirm loses one of them."""
PERSISTENT = 2
LOOK_AGAIN = 0.1
"""Seconds after which a connection that is not ready is looked at anew."""
DOUBTED_AFTER = 5.0
"""Seconds of age from which a connection is given up whose broker does not answer; so long must the next one last."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class _Opened:
    channel: AbstractChannel
    #: aiormq's own, for aio-pika's waits until each message is on its way, and holds up the next one meanwhile.
    wire: aiormq.Channel
    at: float


class RabbitPublisher:
    """Publishes over a pool of channels of one connection, which carries nothing but publishes.

    (An alarm blocks publishing connections only: a consumer on the same one would starve with it.)
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        prepare: Callable[[AbstractConnection], Awaitable[None]] | None = None,
        heartbeat: int = HEARTBEAT,
    ) -> None:
        """Prepare to publish.

        Args:
            url: Of the broker.
            name: What the broker's operator sees the connection as.
            prepare: Called on each new connection before it counts as up, for example to declare a topology.
            heartbeat: Seconds; see `Link`.
        """
        self._prepare = prepare
        self._channels: list[_Opened] = []
        self._opened_at = self._confirmed_at = 0.0
        self._renewals: set[asyncio.Task[None]] = set()
        self.link = Link(url, name=name, on_connect=self._open, heartbeat=heartbeat)

    async def _open(self, connection: AbstractConnection) -> None:
        if self._prepare is not None:
            await self._prepare(connection)
        self._channels = [await self._open_channel(connection) for _ in range(CHANNELS)]
        self._opened_at = asyncio.get_running_loop().time()

    async def _open_channel(self, connection: AbstractConnection) -> _Opened:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        return _Opened(
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
        """Return once the broker confirmed that every queue it routes to has stored the message.

        Args:
            exchange: It must be there.
            routing_key: At most 255 bytes.
            body: A structured-mode CloudEvent.
            correlation_id: The job or processor that it is about.
            within: Seconds until the answer must be there.
            headers: AMQP headers, for people who look at the message.

        Raises:
            NotAccepted: Not connected, blocked, unroutable or refused: it is certainly not stored.
            OutcomeUnknown: It was sent, and no confirm came.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        connection = self.link.connection
        if connection is None or not _takes_messages(connection):
            connection = await self._ready(within)
        properties = aiormq.spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_id=f"{random.getrandbits(128):032x}",
            correlation_id=correlation_id,
            user_id=self.link.user,
            headers=dict(headers or {}),
        )
        # What is said of one job goes over one channel: it arrives in the order in which it was said.
        opened, begun = self._channels[crc32(correlation_id.encode()) % len(self._channels)], loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                await opened.wire.basic_publish(
                    body,
                    exchange=exchange.name,
                    routing_key=routing_key,
                    properties=properties,
                    mandatory=True,
                    wait=False,
                )
            self._confirmed_at = loop.time()
        except aiormq.exceptions.PublishError as error:
            raise NotAccepted(f"no queue takes messages with the key {routing_key}") from error
        except aiormq.exceptions.DeliveryError as error:
            raise NotAccepted("the broker refused the message: a queue is full or can't store it") from error
        except TimeoutError as error:
            if self._confirmed_at < begun:
                await self.doubt(connection)
            else:
                self._renew(connection, opened)
            raise OutcomeUnknown(f"no confirm within {within:.1f} s") from error
        except aiormq.exceptions.ChannelInvalidStateError as error:
            raise NotAccepted("the channel to the broker is closed") from error
        except asyncio.CancelledError as error:
            raise_if_ours(error)
            raise OutcomeUnknown("the broker does not answer any more") from error
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
        """Publish again and again, with back-off, until it is confirmed: for what must be said, and may be twice."""
        pause, longest = BACK_OFF
        while True:
            try:
                await self.publish(
                    exchange, routing_key, body, correlation_id=correlation_id, within=CONFIRM_WITHIN, headers=headers
                )
            except RabbitError as error:
                log.warning(
                    "message_unconfirmed",
                    key=routing_key,
                    correlation_id=correlation_id,
                    error=str(error),
                    retry_in=round(pause, 1),
                )
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
                pause = min(longest, pause * 2)
            else:
                return

    async def doubt(self, connection: AbstractConnection) -> None:
        """Begin anew if this connection is not blocked and yet its broker confirms nothing: its node may be frozen."""
        old = asyncio.get_running_loop().time() - self._opened_at >= DOUBTED_AFTER
        if old and not await _is_blocked(connection):
            self.link.drop(connection)

    def _renew(self, connection: AbstractConnection, doubted: _Opened) -> None:
        """Put another channel in the place of one that lacks a confirm, while others get theirs.

        A queue's leader that lost its disk for a while never confirms what it was sent over an old channel, and goes on
        with a new one (RabbitMQ 3.10).
        """
        old = asyncio.get_running_loop().time() - doubted.at >= DOUBTED_AFTER
        if old and doubted in self._channels:
            task = asyncio.create_task(self._replace(connection, doubted))
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)

    async def _replace(self, connection: AbstractConnection, doubted: _Opened) -> None:
        with suppress(*CONNECTION_EXCEPTIONS, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(DOUBTED_AFTER):
                fresh = await self._open_channel(connection)
            if doubted in self._channels:
                self._channels[self._channels.index(doubted)] = fresh
                await asyncio.sleep(DOUBTED_AFTER)  # what else is on its way there may yet be confirmed
                await doubted.channel.close()
            else:
                await fresh.channel.close()

    async def _ready(self, within: float) -> AbstractConnection:
        """Wait for half the time at most, so that something is left for the publish itself."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within / 2
        why = "not connected to the broker"
        while loop.time() < deadline:
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + LOOK_AGAIN)):
                    await self.link.wait_up()
                    connection = self.link.connection
                    if connection is None or not connection.connected.is_set():
                        await asyncio.sleep(LOOK_AGAIN)
                        continue
                    # Never returns for a connection that is lost meanwhile: hence the many short waits.
                    await _unblocked(connection)
                    return connection
            except TimeoutError:
                if self.link.is_up:
                    why = "the broker has blocked us: it is short of memory or disk"
        raise NotAccepted(why)


def _takes_messages(connection: AbstractConnection) -> bool:
    """Whether the broker takes messages over this connection right now."""
    if connection.transport is None or not connection.connected.is_set():
        return False
    waiting = cast("Coroutine[None, None, None]", connection.transport.ready())
    try:
        waiting.send(None)
    except StopIteration:
        return True  # there was nothing to wait for
    waiting.close()
    return False


async def _unblocked(connection: AbstractConnection) -> None:
    """Wait until the broker takes messages; `connection.ready` waits for the connection alone (aio-pika 10.2.1)."""
    if connection.transport is not None:
        await connection.transport.ready()


async def _is_blocked(connection: AbstractConnection) -> bool:
    try:
        async with asyncio.timeout(LOOK_AGAIN):
            await _unblocked(connection)
    except TimeoutError:
        return True
    return False
