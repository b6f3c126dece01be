"""Rate and remaining time of a job, computed from its progress reports."""

from dataclasses import dataclass, field

RATE_TIME_CONSTANT = 5.0
"""Time constant of the rate's moving average, in seconds."""


MAX_ETA = 10 * 365 * 86_400.0
"""Seconds; a longer estimate is not reported."""


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
        """Restart the measurement at `done`: units of an earlier attempt do not count for the rate."""
        self.started, self._at, self._done, self._rate = at, at, done, None

    def sample(self, done: float, at: float) -> float | None:
        """Record how much is done; return units per second, or `None` while unknown."""
        elapsed, moved = at - self._at, done - self._done
        if elapsed <= 0 or moved < 0:
            if moved < 0:  # The handler started over: the old rate is meaningless.
                self.begin(done, at)
            return self._rate
        # At first the rate is the plain average; later the last seconds count most.
        weight = min(1.0, elapsed / min(RATE_TIME_CONSTANT, at - self.started))
        self._rate = weight * (moved / elapsed) + (1 - weight) * (self._rate or 0.0)
        self._at, self._done = at, done
        return self._rate


def eta(done: float, total: float | None, rate: float | None) -> float | None:
    """Return the seconds until `total` at this rate, or `None` if unknown."""
    if total is None or not rate:
        return None
    seconds = max(0.0, (total - done) / rate)
    return seconds if seconds < MAX_ETA else None
