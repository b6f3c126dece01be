"""Checks that queues exist and are not full, before a message is published to them.

The broker returns a message only if no queue at all takes it, and the tracker's always does: a missing work queue must
be checked for. A full queue refuses a message that the others store, so its job would be listed and never run.
"""

import asyncio
from dataclasses import dataclass, replace

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from milepost_contracts.messages.broker_objects import Queue
from milepost_gateway.errors import NotAccepted
from milepost_rabbit.depth import depths
from milepost_rabbit.publisher import RabbitPublisher

RECHECK_AFTER, CHECK_TTL = 0.5, 1.0
"""Seconds after which a queue is checked again, while submissions go on; and for which its check is valid."""
FULL = 0.99
"""The share of its maximum length from which a queue counts as full: the rest is for messages between two checks."""
FALLEN = 0.9
"""The share of its length at a refusal below which a queue takes messages again."""
TRY_AGAIN_AFTER = 10.0
"""Seconds after a refusal until a message is published all the same: its limit may have been raised."""


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    at: float
    #: The messages that waited then; `None` until they are counted.
    ready: int | None = None


class FullQueues:
    """Knows which queues are full: by their maximum length, or since one has refused a message.

    An operator's policy may limit a queue to less than its maximum length; AMQP does not tell.
    """

    def __init__(self) -> None:
        self._refusals: dict[str, _Refusal] = {}

    def note_refusal(self, name: str, *, at: float) -> None:
        """Count a queue as full, until it is shorter than at the next call of `is_full`, or some time has passed."""
        self._refusals[name] = _Refusal(at=at)

    def is_full(self, queue: Queue, *, ready: int, at: float) -> bool:
        """Return whether the queue, with so many messages ready, is full."""
        if queue.max_length is not None and ready >= FULL * queue.max_length:
            return True
        refusal = self._refusals.get(queue.name)
        if refusal is None:
            return False
        length = ready if refusal.ready is None else refusal.ready
        if at - refusal.at < TRY_AGAIN_AFTER and ready >= FALLEN * length:
            self._refusals[queue.name] = replace(refusal, ready=length)
            return True
        del self._refusals[queue.name]
        return False


class QueueChecks:
    """Checks each set of queues at most twice a second, however many messages are published to it."""

    def __init__(self, publisher: RabbitPublisher) -> None:
        self._publisher = publisher
        self._checked_at: dict[str, float] = {}
        self._checks: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._full = FullQueues()

    async def require(self, queues: tuple[Queue, ...], *, within: float) -> None:
        """Return if these queues exist and none is full.

        Raises:
            NotAccepted: One does not exist or is full, or that can't be known.
        """
        at = asyncio.get_running_loop().time()
        names = tuple(queue.name for queue in queues)
        oldest = min(self._checked_at.get(name, float("-inf")) for name in names)
        if at - oldest < RECHECK_AFTER:
            return
        check = self._checks.get(names)
        if check is None:
            check = self._checks[names] = asyncio.create_task(self._check(queues, within))
            check.add_done_callback(lambda task: self._check_done(names, task))
        if at - oldest >= CHECK_TTL:
            await asyncio.shield(check)

    def note_refusal(self, queues: tuple[Queue, ...]) -> None:
        """Count the first of these queues as full: the broker does not tell which one refused a message.

        The first is the one that other messages do not need, so only these are refused from now on.
        """
        name = queues[0].name
        self._full.note_refusal(name, at=asyncio.get_running_loop().time())
        self._checked_at.pop(name, None)

    def _check_done(self, names: tuple[str, ...], task: asyncio.Task[None]) -> None:
        del self._checks[names]
        if not task.cancelled():
            task.exception()  # those that waited for it have the error, and the next request checks again

    async def _check(self, queues: tuple[Queue, ...], within: float) -> None:
        """Record that these queues exist and are not full; raise `NotAccepted` if not."""
        connection = self._publisher.link.connection
        if connection is None:
            return  # the publisher waits for a connection, and raises if none comes
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(within):
                found = await depths(connection, queues)
        except TimeoutError as error:
            await self._publisher.drop_if_unresponsive(connection)
            raise NotAccepted("the broker does not answer") from error
        except CONNECTION_EXCEPTIONS as error:
            raise NotAccepted(f"the connection to the broker was lost: {error}") from error
        for queue in queues:
            if queue.name not in found:
                raise NotAccepted(f"the queue {queue.name} does not exist at the broker")
            ready = found[queue.name].ready
            if self._full.is_full(queue, ready=ready, at=begun):
                raise NotAccepted(f"the queue {queue.name} takes no more messages now; {ready} wait in it")
        self._checked_at.update(dict.fromkeys((queue.name for queue in queues), begun))
