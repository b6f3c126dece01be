"""What all processors hear at once: requests to cancel. A hint for speed; the gate knows as much a second later."""

from collections.abc import Callable

import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from milepost_contracts.errors import MalformedEvent
from milepost_contracts.events import CancelRequested, decode_event
from milepost_contracts.topology import Topology
from milepost_rabbit.declare import declare
from milepost_rabbit.link import Link

log = structlog.get_logger(__name__)


class ControlListener:
    """Consumes a queue of this processor's own, on a connection of its own: a blocked publisher must still hear."""

    def __init__(
        self, url: str, topology: Topology, instance: str, *, cancel: Callable[[str, int], None], heartbeat: int
    ) -> None:
        self._queue = topology.control_queue(instance)
        self._cancel = cancel
        self._link = Link(url, name="processor control", on_connect=self._open, heartbeat=heartbeat)

    async def listen(self) -> None:
        """Listen until cancelled."""
        self._link.start()
        try:
            await self._link.ended()
        finally:
            await self._link.close()

    async def _open(self, connection: AbstractConnection) -> None:
        # The channel stays open, and the queue with it, for as long as the connection lives.
        await declare(connection, (), (self._queue,))
        channel = await connection.channel()
        queue = await channel.get_queue(self._queue.name, ensure=False)
        await queue.consume(self._heard, no_ack=True, exclusive=True)

    async def _heard(self, message: AbstractIncomingMessage) -> None:
        try:
            event = decode_event(message.body)
        except MalformedEvent as error:
            log.warning("control_message_unreadable", error=str(error))
            return
        if isinstance(event, CancelRequested):
            self._cancel(event.request.job_id, event.request.run)
