"""How many messages RabbitMQ holds."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class QueueDepths(NamedTuple):
    """Messages that are not delivered, by the kind of queue."""

    ready: int
    #: Jobs and webhooks.
    delayed: int
    dead_lettered: int


class QueueCounts(Protocol):
    """Counts messages in the broker's queues."""

    async def depths(self, queues: Sequence[str]) -> QueueDepths:
        """Return the depths of these queues of job types, of the delay levels, and of the dead-letter queue.

        Raises:
            EventLogUnavailable: The broker does not answer.
        """
