"""Whether Redis has all that was written to it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol


class Checkpoints(Protocol):
    """Finds shards that have lost writes. Every call may raise `StoreUnavailable`."""

    async def lost_shards(self) -> dict[int, datetime | None]:
        """Return the shards that have lost writes, each with the time until which it is complete, if that is known.

        Gateways serve nothing of these shards until `mark_complete`.
        """

    @property
    def confirmed(self) -> bool:
        """Whether every shard was confirmed as complete on this server at the last call of `lost_shards`."""

    @property
    def server(self) -> str:
        """The server of the last call of `lost_shards`: another one after each restart and each failover."""

    @property
    def applied_until(self) -> datetime | None:
        """The time until which events were applied to the shards that are not confirmed; `None` if unknown."""

    async def confirm_complete(self) -> bool:
        """Confirm that a new Redis server has all there was, once all trackers had time to object.

        To be called when `lost_shards` finds none. Return whether every shard is confirmed.
        """

    async def leave(self) -> None:
        """Deregister this tracker: the others do not wait for its objection any more."""

    async def begin_replay(self, shards: Iterable[int]) -> None:
        """Record that these shards are being replayed: one that loses this record, too, is not complete."""

    async def mark_complete(self, shards: Iterable[int]) -> bool:
        """Mark shards as complete after their replay; return whether all of them still had its record."""

    async def hold_replay(self) -> bool:
        """Take or renew the lock of the replay, every 10 s at least; return whether this tracker has it."""

    async def end_replay(self) -> None:
        """Give the lock back."""
