"""Exponential back-off with jitter, so that many clients do not retry at the same time."""

import random


class BackOff:
    """The pauses between failed tries in a row."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        """Start with `first` seconds; double the pause each time, up to `longest`. The jitter is 20 % either way."""
        self._first = self._pause = first
        self._longest = longest

    def next(self) -> float:
        """Return the seconds to wait after a failure."""
        pause = self._pause * random.uniform(0.8, 1.2)
        self._pause = min(self._longest, self._pause * 2)
        return pause

    def reset(self) -> None:
        """Start over with the first pause, after a success."""
        self._pause = self._first
