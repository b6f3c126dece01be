"""Publishes events of jobs."""

from collections.abc import Callable
from typing import Protocol

from milepost import Run
from milepost_contracts.messages.job_events import JobEvent


class EventPublisher(Protocol):
    """Publishes events with confirms, from any thread."""

    def publish(self, event: JobEvent) -> None:
        """Return once the event is confirmed, however long the broker is away.

        Raises:
            Stopping: The process stops before that.
        """

    def report(self, run: Run, *, started: Callable[[], JobEvent], progressed: Callable[[], JobEvent]) -> None:
        """Publish that the run has started, if it lasts for a moment, and then its coalesced progress.

        `started` and `progressed` build an event of the run as it is when they are called.
        """

    def stop_reporting(self, run: Run) -> None:
        """Stop publishing the run's progress."""
