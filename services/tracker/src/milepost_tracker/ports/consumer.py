"""Messages that arrive from the broker."""

from collections.abc import Mapping
from typing import Any, Protocol

from milepost_contracts.messages.received import Received


class Delivery(Protocol):
    """A message that is not acknowledged yet."""

    @property
    def received(self) -> Received:
        """The message as the broker delivered it."""

    @property
    def queue(self) -> str:
        """The queue it came from."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers that the publisher and the broker have set."""
