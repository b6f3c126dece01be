"""Messages that nobody could read."""

from datetime import datetime
from typing import Protocol


class PoisonStore(Protocol):
    """Records unreadable messages."""

    async def record(self, body: bytes, *, queue: str, reason: str, at: datetime) -> None:
        """Record an unreadable message.

        Raises:
            StoreUnavailable: It may not be recorded; repeating is harmless.
        """
