"""The problems that the HTTP interface answers with (RFC 9457), each with its status and its title.

`docs/reference/problems.md` explains each; the `type` of a problem points there.
"""

from enum import Enum
from http import HTTPStatus
from typing import Any

from milepost_contracts.values import Value

DOCS = "https://milepost.dev/reference/problems"
MEDIA_TYPE = "application/problem+json"


class ProblemType(Enum):
    MALFORMED_REQUEST = ("malformed-request", HTTPStatus.BAD_REQUEST, "The request can't be read")
    UNKNOWN_JOB = ("unknown-job", HTTPStatus.NOT_FOUND, "No such job")
    UNKNOWN_BATCH = ("unknown-batch", HTTPStatus.NOT_FOUND, "No such batch")
    NOT_FOUND = ("not-found", HTTPStatus.NOT_FOUND, "Nothing is here")
    METHOD_NOT_ALLOWED = ("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "This can't be done here")
    JOB_EXPIRED = ("job-expired", HTTPStatus.GONE, "Nothing is kept of the job any more")
    JOB_ALREADY_FINISHED = ("job-already-finished", HTTPStatus.CONFLICT, "The job has ended already")
    NOT_A_DEAD_LETTER = ("not-a-dead-letter", HTTPStatus.CONFLICT, "The job was not given up")
    RUNS_EXHAUSTED = ("runs-exhausted", HTTPStatus.CONFLICT, "The job has run as often as a job can")
    NO_WEBHOOK = ("no-webhook", HTTPStatus.CONFLICT, "There is no webhook")
    JOB_FAILED = ("job-failed", HTTPStatus.CONFLICT, "The job failed, so it has no result")
    JOB_CANCELED = ("job-canceled", HTTPStatus.CONFLICT, "The job was canceled, so it has no result")
    UNAUTHENTICATED = ("unauthenticated", HTTPStatus.UNAUTHORIZED, "Not authenticated")
    FORBIDDEN = ("forbidden", HTTPStatus.FORBIDDEN, "Not allowed")
    TOO_MANY_REQUESTS = ("too-many-requests", HTTPStatus.TOO_MANY_REQUESTS, "That is more than you may ask for")
    TOO_MANY_JOBS = ("too-many-jobs", HTTPStatus.TOO_MANY_REQUESTS, "You have as many live jobs as you may have")
    KEY_REUSED = ("key-reused", HTTPStatus.UNPROCESSABLE_ENTITY, "The Idempotency-Key belongs to another request")
    KEY_IN_FLIGHT = ("key-in-flight", HTTPStatus.CONFLICT, "The first request with this key is still being worked on")
    JOB_NOT_FINISHED = ("job-not-finished", HTTPStatus.CONFLICT, "The job has not ended yet")
    RANGE_NOT_SATISFIABLE = (
        "range-not-satisfiable",
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "There are no such bytes",
    )
    REQUEST_TIMEOUT = ("request-timeout", HTTPStatus.REQUEST_TIMEOUT, "The rest of the request did not come")
    TOO_LARGE = ("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large")
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported-media-type",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "This media type is not understood",
    )
    INVALID_REQUEST = ("invalid-request", HTTPStatus.UNPROCESSABLE_ENTITY, "The request does not fit")
    UNKNOWN_JOB_TYPE = ("unknown-job-type", HTTPStatus.UNPROCESSABLE_ENTITY, "No such job type")
    INVALID_PARAMS = ("invalid-params", HTTPStatus.UNPROCESSABLE_ENTITY, "The params don't fit the job type")
    NOT_ACCEPTED = ("not-accepted", HTTPStatus.SERVICE_UNAVAILABLE, "The job was not accepted")
    OUTCOME_UNKNOWN = (
        "outcome-unknown",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Whether the job was accepted is not known",
    )
    INTERNAL_ERROR = ("internal-error", HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway made a mistake")
    STATUS_UNAVAILABLE = (
        "status-unavailable",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The status can't be read now",
    )

    def __init__(self, slug: str, status: HTTPStatus, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        return f"{DOCS}#{self.slug}"


class ProblemDetail(Value):
    """One place that is wrong."""

    #: RFC 6901, relative to the request's body.
    pointer: str
    detail: str


class Problem(Value):
    """The body of every 4xx and 5xx answer."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[ProblemDetail, ...] = ()
    #: The job that the problem is about, where there is one.
    job_id: str | None = None

    @classmethod
    def of(cls, kind: ProblemType, detail: str, **more: Any) -> "Problem":
        return cls(type=kind.uri, title=kind.title, status=kind.status, detail=detail, **more)
