"""The states of a job, in words that generic polling clients understand."""

from enum import StrEnum


class Status(StrEnum):
    #: Accepted, to start at a later time.
    SCHEDULED = "scheduled"
    #: Accepted, waiting for a processor.
    QUEUED = "queued"
    #: A handler is running.
    RUNNING = "running"
    #: An attempt failed or asked for another one, which waits for its time.
    RETRYING = "retrying"
    #: The handler returned; its result is stored.
    SUCCEEDED = "succeeded"
    #: No further attempt will be made.
    FAILED = "failed"
    #: Canceled on request.
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self in _TERMINAL

    @property
    def absorbing(self) -> bool:
        """Whether no event of another attempt of the same run can change it.

        `failed` is terminal but not absorbing: that a job is lost can be an inference, and a later success wins.
        """
        return self in _ABSORBING


_TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
_ABSORBING = frozenset({Status.SUCCEEDED, Status.CANCELED})
UNFINISHED = tuple(status for status in Status if not status.terminal)
"""The states of a job that has not ended, in the order of its life."""
