"""The states of a job, in words that generic polling clients understand."""

from enum import StrEnum


class Status(StrEnum):
    #: Accepted, to start at a later time.
    SCHEDULED = "scheduled"
    #: Accepted, waiting for a processor.
    QUEUED = "queued"
    #: A handler is at work.
    RUNNING = "running"
    #: An attempt failed; the next one waits for its time.
    RETRYING = "retrying"
    #: The handler returned; its result is stored.
    SUCCEEDED = "succeeded"
    #: No further attempt will be made.
    FAILED = "failed"
    #: Stopped because somebody asked for it.
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self in _TERMINAL

    @property
    def absorbing(self) -> bool:
        """Whether nothing that another attempt of the same run says can change it any more.

        `failed` is terminal but not absorbing: that a job is lost can be an inference, and late evidence wins.
        """
        return self in _ABSORBING


_TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
_ABSORBING = frozenset({Status.SUCCEEDED, Status.CANCELED})
