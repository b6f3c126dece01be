"""The errors of the core. It knows no HTTP: `api/problems.py` maps each to a problem.

The first line of a class's docstring is also the reason with which a WebSocket is closed.

GatewayError
├── UnknownJobType       no processor announced the type; carries similar or other names
├── InvalidSubmission    the submission is invalid; carries the validation errors
│   └── InvalidParams    its params don't match the type's schema
├── PayloadTooLarge      the body, the params or the file names are larger than allowed
├── NotAccepted          the broker certainly did not store the message
├── BrokerUnavailable    the broker does not answer
├── OutcomeUnknown       no publisher confirm came; carries the job's id
├── JobUnknown           the id was never issued to this tenant
├── JobExpired           the id was issued, and the job has expired or was deleted
├── BatchUnknown         the batch's id was never issued to this tenant
├── JobAlreadyFinished   the job has ended, and can't be canceled; carries its status
├── JobNotFinished       the job has not ended, so it can't be retried or deleted; carries its status
├── NoResult             the job failed or was canceled; carries its status and why
├── NoSuchOutput         the job has no file with this name
├── RangeNotSatisfiable  the requested range is outside the file; carries its size
├── BlobStoreUnavailable the blob storage does not answer
├── NoWebhook            the job has no callback URL, or the deployment sends no webhooks; says which
├── RunsExhausted        the job has no runs left
├── Unauthenticated      the API key or token is missing or invalid
├── Forbidden            the caller lacks a scope; carries it
├── IssuerUnavailable    the keys of a token's issuer can't be read
├── TooManyRequests      a rate limit or the limit of waiting requests is reached; carries when to try again
├── TooManyJobs          the limit of unfinished jobs is reached; carries it
├── KeyReused            the Idempotency-Key was used for another request
├── KeyInFlight          the first request with this Idempotency-Key is still being handled
├── NotADeadLetter       the job is not a dead letter
├── InvalidCursor        the cursor does not come from a listing
└── StoreUnavailable     the status store does not answer
    └── NotKnownYet      it answers, but the job or the view is not complete yet; says which
"""

from collections.abc import Sequence

from milepost_contracts.http.problems import ProblemDetail


class GatewayError(Exception):
    """The gateway can't do this."""


class UnknownJobType(GatewayError):  # noqa: N818 - errors are named as conditions
    """No processor has announced this job type."""

    def __init__(self, name: str, near: Sequence[str], known: int) -> None:
        super().__init__(name)
        self.name = name
        self.near = near
        self.known = known


class InvalidSubmission(GatewayError):  # noqa: N818
    """The submission is invalid."""

    def __init__(self, errors: Sequence[ProblemDetail]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = tuple(errors)


class InvalidParams(InvalidSubmission):
    """The params don't match the job type's schema."""


class PayloadTooLarge(GatewayError):  # noqa: N818
    """The submission is larger than allowed."""


class NotAccepted(GatewayError):  # noqa: N818
    """The broker did not store the message."""


class BrokerUnavailable(GatewayError):  # noqa: N818
    """The broker does not answer."""


class OutcomeUnknown(GatewayError):  # noqa: N818
    """It is unknown whether the broker stored the message."""

    def __init__(self, job_id: str, detail: str) -> None:
        super().__init__(detail)
        self.job_id = job_id


class JobUnknown(GatewayError):  # noqa: N818
    """This id was never issued to this tenant."""


class JobExpired(GatewayError):  # noqa: N818
    """The job has expired or was deleted."""


class BatchUnknown(GatewayError):  # noqa: N818
    """This batch was never issued to this tenant."""


class JobAlreadyFinished(GatewayError):  # noqa: N818
    """The job has ended."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class JobNotFinished(GatewayError):  # noqa: N818
    """The job has not ended yet."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class NoSuchOutput(GatewayError):  # noqa: N818
    """The job has no file with this name."""


class RangeNotSatisfiable(GatewayError):  # noqa: N818
    """The requested range is outside the file."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class BlobStoreUnavailable(GatewayError):  # noqa: N818
    """The blob storage does not answer."""


class NoWebhook(GatewayError):  # noqa: N818
    """There is no webhook."""


class RunsExhausted(GatewayError):  # noqa: N818
    """The job has no runs left."""


class NoResult(GatewayError):  # noqa: N818
    """The job has ended without a result."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Unauthenticated(GatewayError):  # noqa: N818
    """The API key or token is missing or invalid."""


class Forbidden(GatewayError):  # noqa: N818
    """The caller lacks a scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope


class IssuerUnavailable(GatewayError):  # noqa: N818
    """The keys of the token's issuer can't be read."""


class TooManyRequests(GatewayError):  # noqa: N818
    """The tenant's limit is reached."""

    def __init__(self, why: str, *, retry_after: float) -> None:
        super().__init__(why)
        #: Seconds after which to try again.
        self.retry_after = retry_after


class TooManyJobs(GatewayError):  # noqa: N818
    """The tenant's limit of unfinished jobs is reached."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class KeyReused(GatewayError):  # noqa: N818
    """The key was used for another request."""


class KeyInFlight(GatewayError):  # noqa: N818
    """The first request with this key is still being handled."""


class NotADeadLetter(GatewayError):  # noqa: N818
    """The job is not a dead letter."""


class InvalidCursor(GatewayError):  # noqa: N818
    """This cursor does not come from a listing."""


class StoreUnavailable(GatewayError):  # noqa: N818
    """The status store does not answer."""


class NotKnownYet(StoreUnavailable):
    """The job's status is not known yet."""
