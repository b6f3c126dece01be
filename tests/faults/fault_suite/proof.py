"""The proof that a fault took hold. Without one, a row says nothing, and fails as vacuous."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


class Vacuous(AssertionError):  # noqa: N818 - the word for such a test
    """A fault that had no effect: the invariants held without it."""


@dataclass(frozen=True)
class Proof:
    """What a fault was seen to do. It can't be made for a fault that did nothing."""

    #: How often each effect was observed, for example `{"processes killed": 6}`.
    effects: Mapping[str, int]
    #: How many jobs' messages were destroyed: exactly so many must end as lost. None if that can't be known.
    destroyed: int | None = None

    def __post_init__(self) -> None:
        """Raise `Vacuous` if an expected effect was not observed."""
        missing = [effect for effect, count in self.effects.items() if count < 1]
        if missing or not self.effects:
            raise Vacuous(f"vacuous: the fault did not take hold: no {' and no '.join(missing) or 'effect'}")

    def __add__(self, other: "Proof") -> "Proof":
        """Return the proof of both faults."""
        return Proof(Counter(self.effects) + Counter(other.effects))

    def __str__(self) -> str:
        return ", ".join(f"{int(count)} {effect}" for effect, count in self.effects.items())


def proved(outcome: object) -> Proof:
    """Return what an act returned, if it is a proof; raise `Vacuous` if it is anything else."""
    if isinstance(outcome, Proof):
        return outcome
    raise Vacuous(f"vacuous: the fault returned no proof that it took hold, but {outcome!r}")
