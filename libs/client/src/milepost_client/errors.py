"""Errors of the client.

MilepostError
├── Refused            the gateway refused the request (`.problem`)
│   └── JobNotFound    the job does not exist, was deleted, or is past its retention
├── Unavailable        the gateway can't be reached, or can't do this now; `.problem` if it answered with one
├── PartlySubmitted    some jobs of many were submitted (`.group`), then an error occurred
├── InvalidWebhook     the webhook's signature or content is invalid, or it is too old
├── DownloadError      the digest of a download does not match, or its file name is not allowed
├── StillRunning       the timeout has passed; the job is still running
├── JobFailed          the job ended as `failed` (`.document`)
└── JobCanceled        the job ended as `canceled` (`.document`)
"""

from typing import Any

from milepost_contracts.http.problems import Problem
from milepost_contracts.status.document import JobDocument

DEFAULT_RETRY_AFTER = 1.0
"""Seconds until the next attempt if there was no response."""


class MilepostError(Exception):
    """Base class of all errors of the client."""


def describe(problem: Problem) -> str:
    """Return the problem as text, with a line for each validation error."""
    places = "".join(f"\n  {error.pointer or '/'}: {error.detail}" for error in problem.errors)
    return f"{problem.title}: {problem.detail}{places}"


class Refused(MilepostError):  # noqa: N818 - these are named as conditions
    """The gateway refused the request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(describe(problem))
        self.problem = problem


class JobNotFound(Refused):
    """The job does not exist, was deleted, or is past its retention."""


class Unavailable(MilepostError):  # noqa: N818
    """The gateway can't be reached, or can't do this now."""

    def __init__(
        self, message: str, problem: Problem | None = None, *, retry_after: float | None = None, temporary: bool = True
    ) -> None:
        super().__init__(message)
        self.problem = problem
        #: Whether a retry may succeed.
        self.temporary = temporary
        #: Whether there was a response, so that `retry_after` comes from it.
        self.answered = retry_after is not None
        #: Seconds to wait before a retry.
        self.retry_after = DEFAULT_RETRY_AFTER if retry_after is None else retry_after


class PartlySubmitted(MilepostError):  # noqa: N818
    """Some jobs of many were submitted, then an error occurred."""

    def __init__(self, group: Any, error: Exception) -> None:
        super().__init__(f"{len(group.job_ids)} jobs were submitted, then an error occurred: {error}")
        #: The jobs of the successful requests: a `JobGroup`, or an `AsyncJobGroup`.
        self.group = group


class InvalidWebhook(MilepostError):  # noqa: N818
    """The webhook is unsigned, malformed or too old: answer 400, and ignore it."""


class DownloadError(MilepostError):
    """The digest of a download does not match, or its file name is outside the folder."""


class StillRunning(MilepostError):  # noqa: N818
    """The job has not ended within the timeout; it is still running."""


class JobFailed(MilepostError):  # noqa: N818
    """The job failed."""

    def __init__(self, document: JobDocument) -> None:
        super().__init__(document.error.message if document.error else "The job failed.")
        self.document = document


class JobCanceled(MilepostError):  # noqa: N818
    """The job was canceled."""

    def __init__(self, document: JobDocument) -> None:
        super().__init__("The job was canceled.")
        self.document = document
