"""How long jobs wait in their queues until they start: clients poll less often while the wait is long."""

from datetime import timedelta

from milepost_processor import metrics

WEIGHT = 0.2
"""The weight of the latest job in the moving average."""


class QueueWait:
    """A moving average of the wait, by queue: written by the threads that run jobs, read for the heartbeat."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def record(self, queue: str, length: timedelta) -> None:
        """Record how long a job has waited that starts for the first time."""
        seconds = max(0.0, length.total_seconds())  # the gateway's clock may be ahead
        metrics.waited.labels(queue=queue).observe(seconds)
        before = self._seconds.get(queue, seconds)
        self._seconds[queue] = before + WEIGHT * (seconds - before)

    def averages(self) -> dict[str, float]:
        """Return the average wait in seconds, by queue."""
        return {queue: round(seconds, 3) for queue, seconds in sorted(self._seconds.copy().items())}
