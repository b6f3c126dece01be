"""What the core refuses. It knows no HTTP: `api/problems.py` says what each means there.

GatewayError
├── UnknownJobType     nobody announced it; carries the names that are near
├── InvalidParams      the params don't fit the announced schema; carries the places
├── InvalidSubmission  anything else about the submission that does not fit; carries the places
├── PayloadTooLarge    the params or files are larger than allowed
├── NotAccepted        the broker certainly did not take the job
├── BrokerUnavailable  the broker does not answer
├── OutcomeUnknown     the broker did not say whether it took the job; carries its id
├── JobUnknown         never issued, or another tenant's
├── JobExpired         issued, and past its retention
├── BatchUnknown       no such batch was issued to this tenant
├── JobAlreadyFinished  there is nothing left to cancel
├── JobNotFinished     it can't run again while it has not ended
├── NoResult           it ended without one: failed or canceled, and says why
├── NoSuchOutput       its handler wrote no such file, or the job has not ended yet
├── RangeNotSatisfiable  the file has no such bytes; carries how many it has
├── BlobsUnavailable   the blob storage does not answer
├── NoWebhook          the job has no callback URL, or the deployment sends no webhooks; says which
├── RunsExhausted      it has run as often as a job can
├── Unauthenticated    who asks can't be told
├── Forbidden          who asks is known, and may not do this
├── IssuerUnavailable  the issuer of a token does not say which keys verify it
├── TooManyRequests    more than the tenant may ask for; carries when to try again
├── TooManyJobs        the tenant has as many live jobs as it may have
├── KeyReused          another request has used this Idempotency-Key
├── KeyInFlight        the first request with this Idempotency-Key is still being worked on
├── NotADeadLetter     the broker has not given this job up
├── InvalidCursor      not one of ours
└── StoreUnavailable   the status store does not answer
    └── NotKnownYet        it answers, and what it says is not the whole truth yet
"""

from collections.abc import Sequence

from milepost_contracts.problems import ProblemDetail


class GatewayError(Exception):
    """The gateway can't do that."""


class UnknownJobType(GatewayError):  # noqa: N818 - these are named as conditions
    """No processor has announced this job type."""

    def __init__(self, name: str, near: Sequence[str], known: int) -> None:
        super().__init__(name)
        self.name = name
        self.near = near
        self.known = known


class InvalidSubmission(GatewayError):  # noqa: N818
    """The submission does not fit."""

    def __init__(self, errors: Sequence[ProblemDetail]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = tuple(errors)


class InvalidParams(InvalidSubmission):
    """The params don't fit the job type."""


class PayloadTooLarge(GatewayError):  # noqa: N818
    """The submission is larger than allowed."""


class NotAccepted(GatewayError):  # noqa: N818
    """The broker did not take the job."""


class BrokerUnavailable(GatewayError):  # noqa: N818
    """The broker does not answer."""


class OutcomeUnknown(GatewayError):  # noqa: N818
    """The broker did not say whether it took the job."""

    def __init__(self, job_id: str, detail: str) -> None:
        super().__init__(detail)
        self.job_id = job_id


class JobUnknown(GatewayError):  # noqa: N818
    """This id was never issued to this tenant."""


class JobExpired(GatewayError):  # noqa: N818
    """The job's retention time is over."""


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
    """The job has no such file."""


class RangeNotSatisfiable(GatewayError):  # noqa: N818
    """The file has no such bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class BlobsUnavailable(GatewayError):  # noqa: N818
    """The blob storage does not answer."""


class NoWebhook(GatewayError):  # noqa: N818
    """There is no webhook."""


class RunsExhausted(GatewayError):  # noqa: N818
    """The job has run as often as a job can."""


class NoResult(GatewayError):  # noqa: N818
    """The job has ended without a result."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Unauthenticated(GatewayError):  # noqa: N818
    """Who asks can't be told."""


class Forbidden(GatewayError):  # noqa: N818
    """Who asks may not do this."""

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope


class IssuerUnavailable(GatewayError):  # noqa: N818
    """The issuer of a token does not answer."""


class TooManyRequests(GatewayError):  # noqa: N818
    """The tenant asks for more than it may."""

    def __init__(self, why: str, *, retry_after: float) -> None:
        super().__init__(why)
        #: Seconds.
        self.retry_after = retry_after


class TooManyJobs(GatewayError):  # noqa: N818
    """The tenant has as many live jobs as it may have."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class KeyReused(GatewayError):  # noqa: N818
    """Another request has used this key."""


class KeyInFlight(GatewayError):  # noqa: N818
    """The first request with this key is still being worked on."""


class NotADeadLetter(GatewayError):  # noqa: N818
    """The broker has not given this job up."""


class InvalidCursor(GatewayError):  # noqa: N818
    """This cursor does not come from a listing."""


class StoreUnavailable(GatewayError):  # noqa: N818
    """The status store does not answer."""


class NotKnownYet(StoreUnavailable):
    """What became of the job is not known yet."""
