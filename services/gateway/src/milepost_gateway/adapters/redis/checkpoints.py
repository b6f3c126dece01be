"""The checkpoints of the view's shards that this process has read: one that goes back shows that Redis lost writes."""

from milepost_gateway.errors import NotKnownYet


class SeenCheckpoints:
    """The highest checkpoint read of each shard."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def of(self, shard: int) -> int:
        """Return the highest checkpoint read of this shard; 0 before the first."""
        return self._seen.get(shard, 0)

    def check(self, shard: int, at: bytes | None, *, before: int) -> None:
        """Record a checkpoint that was read; `before` is what `of` returned when the read was sent.

        Raises:
            NotKnownYet: The shard is not complete, or its checkpoint went back.
        """
        if at is None or int(at) < before:
            raise incomplete()
        self._seen[shard] = max(int(at), self._seen.get(shard, 0))


def incomplete() -> NotKnownYet:
    """Return the error for a view that may lack writes: what it says may be old, so it is not served."""
    return NotKnownYet("Redis may have lost writes. The trackers are restoring them from the log.")
