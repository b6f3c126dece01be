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
    """Declares the topology, which nobody else does, and publishes."""

    async def declare(self, queues: Iterable[str]) -> None:
        """Declare and bind what is missing: what exists once, and the queues of these job queues.

        It is repeated until the broker has done it.
        """

    async def declare_soon(self, queues: Iterable[str]) -> None:
        """Try once to declare and bind the queues of these job queues: whoever waits for them asks again."""

    async def publish(self, message: Message, *, to: Stage) -> None:
        """Return once the message is confirmed, however often it must be published."""
