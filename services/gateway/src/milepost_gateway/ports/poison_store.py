"""Messages that nobody could read."""

from collections.abc import Sequence
from typing import Protocol


class PoisonStore(Protocol):
    """The records of unreadable messages, read only."""

    async def latest(self, limit: int) -> Sequence[bytes]:
        """Return the latest records, newest first: each a JSON object.

        Raises:
            StoreUnavailable: Redis can't be read now.
        """
