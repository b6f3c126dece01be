"""What an exchange, a binding and a queue are, as values. `topology` has those of a deployment."""

from dataclasses import dataclass, field
from typing import Literal

#: Name and value of each, as the broker calls them.
Arguments = tuple[tuple[str, str | int], ...]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """An exchange, and the exchanges that feed it."""

    name: str
    kind: Literal["topic", "fanout"]
    #: Name of the exchange that takes what this one has no queue for.
    alternate: str | None = field(default=None, compare=False)
    #: Name of the exchange that feeds only Milepost's own queues, if other teams bind queues to this one.
    private: str | None = field(default=None, compare=False)
    #: The exchanges that feed it.
    bindings: tuple["Binding", ...] = field(default=(), compare=False)

    @property
    def arguments(self) -> Arguments:
        return () if self.alternate is None else (("alternate-exchange", self.alternate),)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Messages of an exchange, by their routing key."""

    exchange: Exchange
    key: str


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue and what is bound to it."""

    name: str
    bindings: tuple[Binding, ...]
    arguments: Arguments = ()
    #: Belongs to one connection and goes with it; all others are durable.
    exclusive: bool = False

    @property
    def dead_letters(self) -> bool:
        """Whether the broker itself dead-letters a rejected message."""
        return "x-dead-letter-exchange" in dict(self.arguments)

    @property
    def max_length(self) -> int | None:
        """How many messages may wait in it before it refuses more; `None` if it never refuses."""
        found = dict(self.arguments)
        refuses = found.get("x-overflow") == "reject-publish" and "x-max-length" in found
        return int(found["x-max-length"]) if refuses else None


def arguments(**named: str | int) -> Arguments:
    """Return the arguments by the broker's names: `max_length` is `x-max-length`."""
    return tuple((f"x-{name.replace('_', '-')}", value) for name, value in named.items())
