"""What can go wrong for a client.

MilepostError
├── Refused        the gateway answered with a problem (`.problem`): the request does not fit
│   └── JobNotFound    no such job, or it is past its retention
├── Unavailable    the gateway can't be reached or can't do it now; `.problem` where it said why
├── PartlyHandedOver   of many jobs some were handed over (`.group`), then something went wrong
├── InvalidWebhook     what came as a webhook is none, or has expired
├── Damaged        what was downloaded is not what was written
├── StillRunning   `wait` gave up; the job goes on
├── JobFailed      the job ended `failed` (`.document`)
└── JobCanceled    the job ended `canceled` (`.document`)
"""

from typing import Any

from milepost_contracts.document import JobDocument
from milepost_contracts.problems import Problem

RETRY_AFTER = 1.0
"""Seconds after which to try again, where nobody says."""


class MilepostError(Exception):
    """Something went wrong between this client and Milepost."""


def in_words(problem: Problem) -> str:
    """Say what is wrong, and at each place."""
    places = "".join(f"\n  {error.pointer or '/'}: {error.detail}" for error in problem.errors)
    return f"{problem.title}: {problem.detail}{places}"


class Refused(MilepostError):  # noqa: N818 - these are named as conditions
    """The gateway refused the request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(in_words(problem))
        self.problem = problem


class JobNotFound(Refused):
    """There is no such job, or nothing is kept of it any more."""


class Unavailable(MilepostError):  # noqa: N818
    """The gateway can't be reached, or can't do it now."""

    def __init__(
        self, message: str, problem: Problem | None = None, *, retry_after: float | None = None, passing: bool = True
    ) -> None:
        super().__init__(message)
        self.problem = problem
        #: Whether it may be otherwise soon.
        self.passing = passing
        #: Whether somebody answered, and said when to come back.
        self.answered = retry_after is not None
        #: Seconds after which to try again.
        self.retry_after = RETRY_AFTER if retry_after is None else retry_after


class PartlyHandedOver(MilepostError):  # noqa: N818
    """Of many jobs some were handed over, then something went wrong."""

    def __init__(self, group: Any, error: Exception) -> None:
        super().__init__(f"{len(group.job_ids)} jobs were handed over, then: {error}")
        #: The jobs of the requests before: a `JobGroup`, or an `AsyncJobGroup`.
        self.group = group


class InvalidWebhook(MilepostError):  # noqa: N818
    """It was not signed with any of the secrets, or not lately: answer 400, and do nothing."""


class Damaged(MilepostError):  # noqa: N818
    """What was downloaded is not what the handler wrote: try again."""


class StillRunning(MilepostError):  # noqa: N818
    """The job has not ended in the time given; it goes on."""


class JobFailed(MilepostError):  # noqa: N818
    """The job failed."""

    def __init__(self, document: JobDocument) -> None:
        super().__init__(document.error.message if document.error else "the job failed")
        self.document = document


class JobCanceled(MilepostError):  # noqa: N818
    """The job was canceled."""

    def __init__(self, document: JobDocument) -> None:
        super().__init__("the job was canceled")
        self.document = document
