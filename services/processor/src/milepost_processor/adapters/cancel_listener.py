"""Receives the cancel requests, which go to all processors. Only for speed: claims return them a second later too."""

from collections.abc import Callable

import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.messages.job_events import CancelRequested
from milepost_contracts.messages.topology import Topology
from milepost_contracts.messages.trust import Trust
from milepost_rabbit.declare import declare_own
from milepost_rabbit.link import Link
from milepost_rabbit.received import received

log = structlog.get_logger(__name__)


class CancelListener:
    """Consumes this processor's control queue, on its own connection: it must receive while publishing is blocked."""

    def __init__(
        self, url: str, topology: Topology, *, trust: Trust, cancel: Callable[[str, int], None], heartbeat: int
    ) -> None:
        self._trust = trust
        self._queue = topology.control_queue
        self._cancel = cancel
        self._link = Link(url, name="processor control", on_connect=self._open, heartbeat=heartbeat)

    async def listen(self) -> None:
        """Receive requests until cancelled."""
        self._link.start()
        try:
            await self._link.ended()
        finally:
            await self._link.close()

    async def _open(self, connection: AbstractConnection) -> None:
        # The channel and the queue exist as long as the connection.
        queue = await declare_own(await connection.channel(), self._queue)
        await queue.consume(self._receive, no_ack=True, exclusive=True)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        try:
            event = self._trust.job_message(received(message))
        except MalformedEvent as error:
            log.warning("control_message_refused", error=str(error))
            return
        if isinstance(event, CancelRequested):
            self._cancel(event.request.job_id, event.request.run)
