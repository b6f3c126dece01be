"""What the projector needs of the world."""

from collections.abc import Mapping
from typing import Protocol

from milepost_contracts.fleet import AnyFleetMessage
from milepost_contracts.view import View


class Delivery(Protocol):
    """One message, not yet acknowledged."""

    @property
    def body(self) -> bytes: ...

    @property
    def queue(self) -> str:
        """The queue it came from."""


class StatusStore(Protocol):
    """The status view."""

    async def apply(self, views: Mapping[str, View]) -> int:
        """Merge these views, by job id, into the stored ones; return how many of them changed.

        Raises:
            StoreUnavailable: Nothing is certain; applying the same again is harmless.
        """

    async def sweep(self) -> int:
        """Forget jobs whose time is over; return how many."""


class FleetStore(Protocol):
    async def record(self, message: AnyFleetMessage) -> None:
        """Keep what a processor says of itself.

        Raises:
            StoreUnavailable: Nothing is certain; recording the same again is harmless.
        """
