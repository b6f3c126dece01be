"""How long jobs wait in their queues until they are started: what tells a client when a second look is worth it."""

from datetime import timedelta

from milepost_processor import metrics

WEIGHT = 0.2
"""Of the latest job: of those before it, ever less."""


class Waits:
    """Written by the threads that run jobs, one job at a time for each; read for the beat."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, queue: str, length: timedelta) -> None:
        """Take note that a job has just been started for the first time, after so long."""
        seconds = max(0.0, length.total_seconds())  # the clock of who handed it over may be ahead
        metrics.waited.labels(queue=queue).observe(seconds)
        before = self._seconds.get(queue, seconds)
        self._seconds[queue] = before + WEIGHT * (seconds - before)

    def lately(self) -> dict[str, float]:
        """Return how long jobs have waited lately, in seconds, by queue."""
        return {queue: round(seconds, 3) for queue, seconds in sorted(self._seconds.copy().items())}
