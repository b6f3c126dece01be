"""Messages that arrive from the broker."""

from collections.abc import Mapping
from typing import Any, Protocol


class Delivery(Protocol):
    """A message that is not acknowledged yet."""

    @property
    def body(self) -> bytes: ...

    @property
    def routing_key(self) -> str: ...

    @property
    def queue(self) -> str:
        """The queue it came from."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers that the publisher and the broker have set."""
