"""The problems of the HTTP interface (RFC 9457), each with its status and title.

`docs/reference/problems.md` explains each; the `type` of a problem points there.
"""

from enum import Enum
from http import HTTPStatus
from typing import Any

from milepost_contracts.values import Value

DOCS = "https://milepost.dev/reference/problems"
MEDIA_TYPE = "application/problem+json"


class ProblemType(Enum):
    MALFORMED_REQUEST = ("malformed-request", HTTPStatus.BAD_REQUEST, "The request is malformed")
    UNKNOWN_JOB = ("unknown-job", HTTPStatus.NOT_FOUND, "Unknown job")
    UNKNOWN_BATCH = ("unknown-batch", HTTPStatus.NOT_FOUND, "Unknown batch")
    NOT_FOUND = ("not-found", HTTPStatus.NOT_FOUND, "Not found")
    METHOD_NOT_ALLOWED = ("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
    JOB_EXPIRED = ("job-expired", HTTPStatus.GONE, "The job has expired or was deleted")
    JOB_ALREADY_FINISHED = ("job-already-finished", HTTPStatus.CONFLICT, "The job has ended already")
    NOT_A_DEAD_LETTER = ("not-a-dead-letter", HTTPStatus.CONFLICT, "The job is not a dead letter")
    RUNS_EXHAUSTED = ("runs-exhausted", HTTPStatus.CONFLICT, "The job has no runs left")
    NO_WEBHOOK = ("no-webhook", HTTPStatus.CONFLICT, "The job has no webhook")
    JOB_FAILED = ("job-failed", HTTPStatus.CONFLICT, "The job failed, so it has no result")
    JOB_CANCELED = ("job-canceled", HTTPStatus.CONFLICT, "The job was canceled, so it has no result")
    UNAUTHENTICATED = ("unauthenticated", HTTPStatus.UNAUTHORIZED, "Not authenticated")
    FORBIDDEN = ("forbidden", HTTPStatus.FORBIDDEN, "Not allowed")
    CROSS_ORIGIN = ("cross-origin", HTTPStatus.FORBIDDEN, "Not allowed to pages of other origins")
    UNKNOWN_HOST = ("unknown-host", HTTPStatus.MISDIRECTED_REQUEST, "Unknown host")
    TOO_MANY_REQUESTS = ("too-many-requests", HTTPStatus.TOO_MANY_REQUESTS, "Too many requests")
    TOO_MANY_JOBS = ("too-many-jobs", HTTPStatus.TOO_MANY_REQUESTS, "Too many unfinished jobs")
    KEY_REUSED = ("key-reused", HTTPStatus.UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request")
    KEY_IN_FLIGHT = ("key-in-flight", HTTPStatus.CONFLICT, "A request with this key is being handled")
    JOB_NOT_FINISHED = ("job-not-finished", HTTPStatus.CONFLICT, "The job has not ended yet")
    RANGE_NOT_SATISFIABLE = (
        "range-not-satisfiable",
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "The range is outside the file",
    )
    REQUEST_TIMEOUT = ("request-timeout", HTTPStatus.REQUEST_TIMEOUT, "The request was not completed in time")
    TOO_LARGE = ("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large")
    URI_TOO_LONG = ("uri-too-long", HTTPStatus.REQUEST_URI_TOO_LONG, "The path and query are too long")
    HEADERS_TOO_LARGE = (
        "headers-too-large",
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The headers are too large",
    )
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported-media-type",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
    )
    INVALID_REQUEST = ("invalid-request", HTTPStatus.UNPROCESSABLE_ENTITY, "The request is invalid")
    UNKNOWN_JOB_TYPE = ("unknown-job-type", HTTPStatus.UNPROCESSABLE_ENTITY, "Unknown job type")
    INVALID_PARAMS = ("invalid-params", HTTPStatus.UNPROCESSABLE_ENTITY, "The params don't match the job type")
    NOT_ACCEPTED = ("not-accepted", HTTPStatus.SERVICE_UNAVAILABLE, "The request was not accepted")
    OUTCOME_UNKNOWN = (
        "outcome-unknown",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "It is unknown whether the request was accepted",
    )
    INTERNAL_ERROR = ("internal-error", HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error")
    STATUS_UNAVAILABLE = (
        "status-unavailable",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Temporarily unavailable",
    )

    def __init__(self, slug: str, status: HTTPStatus, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        return f"{DOCS}#{self.slug}"


class ProblemDetail(Value):
    """A validation error."""

    pointer: str
    """A JSON pointer (RFC 6901) into the request's body."""
    detail: str


class Problem(Value):
    """The body of every 4xx and 5xx response."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[ProblemDetail, ...] = ()
    job_id: str | None = None
    """The id of the job that the problem is about, if there is one."""

    @classmethod
    def of(cls, kind: ProblemType, detail: str, **more: Any) -> "Problem":
        return cls(type=kind.uri, title=kind.title, status=kind.status, detail=detail, **more)
