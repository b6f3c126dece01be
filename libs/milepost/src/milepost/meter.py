"""How fast a job moves and how long it still takes, from what its handler reports."""

from dataclasses import dataclass, field

SMOOTHING = 5.0
"""Seconds over which the rate is averaged: younger speed counts more."""


FORESEEABLE = 10 * 365 * 86_400.0
"""Seconds; an estimate beyond this is none."""


@dataclass
class Meter:
    """An exponentially weighted rate over irregular samples; times are monotonic seconds."""

    started: float
    _at: float = field(init=False)
    _done: float = field(init=False, default=0.0)
    _rate: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._at = self.started

    def begin(self, done: float, at: float) -> None:
        """Measure from here on: what was done before, by an earlier attempt perhaps, says nothing of the speed."""
        self.started, self._at, self._done, self._rate = at, at, done, None

    def sample(self, done: float, at: float) -> float | None:
        """Take in how much is done now; return units a second, or nothing while it can't be known."""
        elapsed, moved = at - self._at, done - self._done
        if elapsed <= 0 or moved < 0:
            if moved < 0:  # The handler began something anew: the old speed says nothing any more.
                self.begin(done, at)
            return self._rate
        # A young job's rate is its plain average; later on the last seconds count most.
        weight = min(1.0, elapsed / min(SMOOTHING, at - self.started))
        self._rate = weight * (moved / elapsed) + (1 - weight) * (self._rate or 0.0)
        self._at, self._done = at, done
        return self._rate


def eta(done: float, total: float | None, rate: float | None) -> float | None:
    """Seconds until `total` at this rate, if that can be said."""
    if total is None or not rate:
        return None
    seconds = max(0.0, (total - done) / rate)
    return seconds if seconds < FORESEEABLE else None
