"""Declares missing queues, and publishes messages to where their way goes on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

#: What the message is to pass next: the delay levels, the entry queue of its job queue or the webhooks' queue, its work
#: queue, or the queues of every event.
Stage = Literal["levels", "entry", "work", "events"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message as it was published."""

    routing_key: str
    body: bytes
    #: The id of the job that it is about.
    subject: str
    headers: Mapping[str, Any]


class MessageRouter(Protocol):
    """Repeats each call until the broker has done it."""

    async def declare(self, queues: Iterable[str]) -> None:
        """Declare and bind what is missing: what exists once, and the entry queues of these job queues.

        Their work queues are bound, but not declared: their processors have the arguments.
        """

    async def publish(self, message: Message, *, to: Stage) -> None:
        """Return once the message is confirmed."""
