"""Every error as problem+json (RFC 9457): one table says what each of the core's errors is over HTTP."""

import math
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from milepost_contracts.problems import MEDIA_TYPE, Problem, ProblemDetail, ProblemType
from milepost_contracts.states import Status
from milepost_contracts.values import MAX_RUN
from milepost_gateway import errors, metrics
from milepost_gateway.api.requests import MalformedRequest, RequestStopped, UnsupportedMediaType, request_id
from milepost_gateway.submission import plain

log = structlog.get_logger(__name__)

RETRY_AFTER = "2"
JOBS_END_WITHIN = "5"
METHODS = ("DELETE", "GET", "POST")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="milepost"'}


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem."""
    app.add_exception_handler(errors.GatewayError, _gateway_error)
    app.add_exception_handler(MalformedRequest, _malformed)
    app.add_exception_handler(RequestStopped, _stopped)
    app.add_exception_handler(UnsupportedMediaType, _unsupported)
    app.add_exception_handler(RequestValidationError, _invalid_query)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def describe(request: Request, error: errors.GatewayError) -> Problem:
    """Return the problem that this error is, for an answer that tells of several."""
    return Problem.model_validate_json(bytes((await _gateway_error(request, error)).body))


def _problem(
    request: Request,
    kind: ProblemType,
    detail: str,
    *,
    details: tuple[ProblemDetail, ...] = (),
    job_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem.of(
        kind, detail, instance=f"urn:milepost:request:{request_id(request.scope)}", errors=details, job_id=job_id
    )
    metrics.problems.labels(kind.slug).inc()
    more = dict(headers or {})
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        more.setdefault("Retry-After", RETRY_AFTER)
        log.warning("unavailable", problem=kind.slug, detail=detail, job_id=job_id)
    if kind.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT):
        more["Connection"] = "close"  # the rest of the body is not read
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=int(kind.status),
        media_type=MEDIA_TYPE,
        headers=more,
    )


async def _gateway_error(request: Request, error: Exception) -> Response:  # noqa: PLR0911, PLR0912 - it is the table
    match error:
        case errors.UnknownJobType():
            return _problem(request, ProblemType.UNKNOWN_JOB_TYPE, _unknown_type(error))
        case errors.InvalidParams():
            return _problem(request, ProblemType.INVALID_PARAMS, _counted(error), details=error.errors)
        case errors.InvalidSubmission():
            return _problem(request, ProblemType.INVALID_REQUEST, _counted(error), details=error.errors)
        case errors.PayloadTooLarge():
            return _problem(request, ProblemType.TOO_LARGE, str(error))
        case errors.NotAccepted():
            detail = f"It was not accepted, and nothing will come of it: {error}. Try again later."
            return _problem(request, ProblemType.NOT_ACCEPTED, detail)
        case errors.BrokerUnavailable():
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, "The broker does not answer.")
        case errors.OutcomeUnknown():
            detail = f"It may or may not have been accepted: {error}. The job's id is in job_id."
            headers = {"Location": str(request.url_for("get_job", job_id=error.job_id))}
            return _problem(request, ProblemType.OUTCOME_UNKNOWN, detail, job_id=error.job_id, headers=headers)
        case errors.JobUnknown():
            return _problem(request, ProblemType.UNKNOWN_JOB, "No job was ever accepted under this id.")
        case errors.BatchUnknown():
            return _problem(request, ProblemType.UNKNOWN_BATCH, "No batch was ever handed over under this id.")
        case errors.JobExpired():
            return _problem(
                request, ProblemType.JOB_EXPIRED, "Its retention time is over, or somebody wanted it forgotten."
            )
        case errors.JobAlreadyFinished():
            return _problem(request, ProblemType.JOB_ALREADY_FINISHED, f"It is {error.status}.")
        case errors.JobNotFinished():
            return _problem(request, ProblemType.JOB_NOT_FINISHED, f"It is {error.status}.")
        case errors.NoSuchOutput():
            detail = "The job has no file of this name; what there is, its document lists once it has ended."
            return _problem(request, ProblemType.NOT_FOUND, detail)
        case errors.RangeNotSatisfiable():
            headers = {"Content-Range": f"bytes */{error.size}"}
            detail = f"There are {error.size} bytes."
            return _problem(request, ProblemType.RANGE_NOT_SATISFIABLE, detail, headers=headers)
        case errors.BlobsUnavailable():
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, "The file storage does not answer.")
        case errors.NoWebhook():
            return _problem(request, ProblemType.NO_WEBHOOK, str(error))
        case errors.RunsExhausted():
            return _problem(request, ProblemType.RUNS_EXHAUSTED, f"{MAX_RUN} runs are the most. Hand over a new job.")
        case errors.NoResult():
            canceled = error.status == Status.CANCELED
            return _problem(request, ProblemType.JOB_CANCELED if canceled else ProblemType.JOB_FAILED, str(error))
        case errors.Unauthenticated():
            return _problem(request, ProblemType.UNAUTHENTICATED, _sentence(str(error)), headers=CHALLENGE)
        case errors.Forbidden():
            return _problem(request, ProblemType.FORBIDDEN, f"It needs a key with the scope {error.scope}.")
        case errors.IssuerUnavailable():
            detail = "The issuer of the token does not say which keys verify it."
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, detail)
        case errors.TooManyRequests():
            wait = str(math.ceil(error.retry_after))
            return _problem(
                request, ProblemType.TOO_MANY_REQUESTS, _sentence(str(error)), headers={"Retry-After": wait}
            )
        case errors.TooManyJobs():
            detail = f"{error.most} that have not ended are the most: wait until some have."
            return _problem(request, ProblemType.TOO_MANY_JOBS, detail, headers={"Retry-After": JOBS_END_WITHIN})
        case errors.KeyReused():
            return _problem(request, ProblemType.KEY_REUSED, "Its first request had another body: take a new key.")
        case errors.KeyInFlight():
            detail = "The same request is still being worked on: ask again."
            return _problem(request, ProblemType.KEY_IN_FLIGHT, detail, headers={"Retry-After": RETRY_AFTER})
        case errors.NotADeadLetter():
            return _problem(request, ProblemType.NOT_A_DEAD_LETTER, "The broker has not given this job up.")
        case errors.InvalidCursor():
            return _problem(request, ProblemType.MALFORMED_REQUEST, "The cursor is not from a page before.")
        case errors.StoreUnavailable():
            why = str(error) if isinstance(error, errors.NotKnownYet) else "the status store does not answer"
            detail = f"{_sentence(why)} Jobs are accepted and run all the same."
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, detail)
        case _:
            raise error


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _counted(error: errors.InvalidSubmission) -> str:
    count = len(error.errors)
    return "One place does not fit." if count == 1 else f"{count} places do not fit."


def _unknown_type(error: errors.UnknownJobType) -> str:
    if not error.known:
        return "No processor has announced any job type yet: start one, with handlers."
    return f"Near to it: {', '.join(error.near)}. All of them: /v1/job-types"


async def _malformed(request: Request, error: Exception) -> Response:
    return _problem(request, ProblemType.MALFORMED_REQUEST, f"The request can't be read: {error}.")


async def _stopped(request: Request, error: Exception) -> Response:
    del error
    return _problem(request, ProblemType.REQUEST_TIMEOUT, "Send it again, without a pause.")


async def _unsupported(request: Request, error: Exception) -> Response:
    headers = {"Accept-Post": "application/json, multipart/form-data"}
    return _problem(request, ProblemType.UNSUPPORTED_MEDIA_TYPE, str(error), headers=headers)


async def _invalid_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    found = error.errors()[:5]
    where = "; ".join(f"{'.'.join(map(str, one['loc']))}: {plain(one['type'], one['msg'])}" for one in found)
    return _problem(request, ProblemType.MALFORMED_REQUEST, where)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    kinds = {
        HTTPStatus.NOT_FOUND: (
            ProblemType.NOT_FOUND,
            "There is nothing at this path; see /docs for what there is.",
        ),
        HTTPStatus.METHOD_NOT_ALLOWED: (
            ProblemType.METHOD_NOT_ALLOWED,
            "See the Allow header for what can be done.",
        ),
    }
    kind, detail = kinds.get(
        HTTPStatus(error.status_code), (ProblemType.MALFORMED_REQUEST, "The request can't be read.")
    )
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return _problem(request, kind, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return what can be done at this path; each route knows of its own methods alone."""
    asked = [(method, {**request.scope, "method": method}) for method in METHODS]
    routes = request.app.routes
    return [method for method, scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return _problem(request, ProblemType.INTERNAL_ERROR, "The gateway's log says more, under the request id.")
