"""Every error as problem+json (RFC 9457): one table maps each error of the core to its problem."""

import math
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from milepost_contracts.http.problems import MEDIA_TYPE, Problem, ProblemDetail, ProblemType
from milepost_contracts.states import Status
from milepost_contracts.values import MAX_RUN
from milepost_gateway import errors, metrics
from milepost_gateway.api.requests import MalformedRequest, RequestStopped, UnsupportedMediaType, request_id
from milepost_gateway.core.submission import error_text

log = structlog.get_logger(__name__)

RETRY_AFTER = "2"
LIVE_JOBS_RETRY_AFTER = "5"
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
    """Return the problem of this error, for a response that reports several."""
    return Problem.model_validate_json(bytes((await _gateway_error(request, error)).body))


def app_of(kind: ProblemType, detail: str) -> ASGIApp:
    """Return an ASGI app that answers every request or WebSocket handshake with this problem."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log.info("request_refused", problem=kind.slug, detail=detail)
        await _problem(HTTPConnection(scope), kind, detail)(scope, receive, send)

    return app


def _problem(
    request: HTTPConnection,
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
            return _problem(request, ProblemType.INVALID_PARAMS, _count_errors(error), details=error.errors)
        case errors.InvalidSubmission():
            return _problem(request, ProblemType.INVALID_REQUEST, _count_errors(error), details=error.errors)
        case errors.PayloadTooLarge():
            return _problem(request, ProblemType.TOO_LARGE, str(error))
        case errors.NotAccepted():
            detail = f"Nothing was stored: {error}. Try again later."
            return _problem(request, ProblemType.NOT_ACCEPTED, detail)
        case errors.BrokerUnavailable():
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, "The broker does not answer.")
        case errors.OutcomeUnknown():
            detail = f"The broker may or may not have stored the request: {error}. The job's id is in job_id."
            headers = {"Location": str(request.url_for("get_job", job_id=error.job_id))}
            return _problem(request, ProblemType.OUTCOME_UNKNOWN, detail, job_id=error.job_id, headers=headers)
        case errors.JobUnknown():
            return _problem(request, ProblemType.UNKNOWN_JOB, "No job with this id was ever accepted.")
        case errors.BatchUnknown():
            return _problem(request, ProblemType.UNKNOWN_BATCH, "No batch with this id was ever submitted.")
        case errors.JobExpired():
            return _problem(request, ProblemType.JOB_EXPIRED, "The retention time is over, or the job was deleted.")
        case errors.JobAlreadyFinished():
            return _problem(request, ProblemType.JOB_ALREADY_FINISHED, f"The job's status is {error.status}.")
        case errors.JobNotFinished():
            return _problem(request, ProblemType.JOB_NOT_FINISHED, f"The job's status is {error.status}.")
        case errors.NoSuchOutput():
            detail = "The job has no file with this name. Once it has ended, its document lists its files."
            return _problem(request, ProblemType.NOT_FOUND, detail)
        case errors.RangeNotSatisfiable():
            headers = {"Content-Range": f"bytes */{error.size}"}
            detail = f"The file has {error.size} bytes."
            return _problem(request, ProblemType.RANGE_NOT_SATISFIABLE, detail, headers=headers)
        case errors.BlobStoreUnavailable():
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, "The file storage does not answer.")
        case errors.NoWebhook():
            return _problem(request, ProblemType.NO_WEBHOOK, str(error))
        case errors.RunsExhausted():
            detail = f"The limit of {MAX_RUN} runs is reached. Submit a new job."
            return _problem(request, ProblemType.RUNS_EXHAUSTED, detail)
        case errors.NoResult():
            canceled = error.status == Status.CANCELED
            return _problem(request, ProblemType.JOB_CANCELED if canceled else ProblemType.JOB_FAILED, str(error))
        case errors.Unauthenticated():
            return _problem(request, ProblemType.UNAUTHENTICATED, _sentence(str(error)), headers=CHALLENGE)
        case errors.Forbidden():
            return _problem(request, ProblemType.FORBIDDEN, f"This needs a key with the scope {error.scope}.")
        case errors.IssuerUnavailable():
            detail = "The keys of the token's issuer can't be read now."
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, detail)
        case errors.TooManyRequests():
            wait = str(math.ceil(error.retry_after))
            return _problem(
                request, ProblemType.TOO_MANY_REQUESTS, _sentence(str(error)), headers={"Retry-After": wait}
            )
        case errors.TooManyJobs():
            detail = f"The limit of {error.limit} unfinished jobs is reached. Wait for some to finish."
            return _problem(request, ProblemType.TOO_MANY_JOBS, detail, headers={"Retry-After": LIVE_JOBS_RETRY_AFTER})
        case errors.KeyReused():
            return _problem(request, ProblemType.KEY_REUSED, "The first request had another body. Use a new key.")
        case errors.KeyInFlight():
            detail = "The first request with this key is still being handled. Try again."
            return _problem(request, ProblemType.KEY_IN_FLIGHT, detail, headers={"Retry-After": RETRY_AFTER})
        case errors.NotADeadLetter():
            return _problem(request, ProblemType.NOT_A_DEAD_LETTER, "It was not dead-lettered, or was redriven since.")
        case errors.InvalidCursor():
            return _problem(request, ProblemType.MALFORMED_REQUEST, "The cursor does not come from an earlier page.")
        case errors.StoreUnavailable():
            why = str(error) if isinstance(error, errors.NotKnownYet) else "the status store does not answer"
            detail = f"{_sentence(why)} Jobs are still accepted and run."
            return _problem(request, ProblemType.STATUS_UNAVAILABLE, detail)
        case _:
            raise error


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _count_errors(error: errors.InvalidSubmission) -> str:
    count = len(error.errors)
    return "1 validation error." if count == 1 else f"{count} validation errors."


def _unknown_type(error: errors.UnknownJobType) -> str:
    if not error.known:
        return "No processor has announced a job type yet. Start one with handlers."
    near = ", ".join(error.near)
    return (
        f"No processor has announced this type. Announced types include {near}."
        " GET /v1/job-types or 'milepost types' lists all."
    )


async def _malformed(request: Request, error: Exception) -> Response:
    return _problem(request, ProblemType.MALFORMED_REQUEST, _sentence(str(error)))


async def _stopped(request: Request, error: Exception) -> Response:
    del error
    return _problem(request, ProblemType.REQUEST_TIMEOUT, "The body stopped arriving. Send the request again.")


async def _unsupported(request: Request, error: Exception) -> Response:
    headers = {"Accept-Post": "application/json, multipart/form-data", "Accept-Encoding": "identity"}
    return _problem(request, ProblemType.UNSUPPORTED_MEDIA_TYPE, str(error), headers=headers)


async def _invalid_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    found = error.errors()[:5]
    where = "; ".join(f"{'.'.join(map(str, one['loc']))}: {error_text(one['type'], one['msg'])}" for one in found)
    return _problem(request, ProblemType.MALFORMED_REQUEST, where)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    kinds = {
        HTTPStatus.NOT_FOUND: (
            ProblemType.NOT_FOUND,
            "No resource has this path. /openapi.json lists all paths.",
        ),
        HTTPStatus.METHOD_NOT_ALLOWED: (
            ProblemType.METHOD_NOT_ALLOWED,
            "The Allow header lists the methods of this path.",
        ),
    }
    kind, detail = kinds.get(
        HTTPStatus(error.status_code), (ProblemType.MALFORMED_REQUEST, "The request is malformed.")
    )
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return _problem(request, kind, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of this path; each route knows only its own."""
    asked = [(method, {**request.scope, "method": method}) for method in METHODS]
    routes = request.app.routes
    return [method for method, scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return _problem(request, ProblemType.INTERNAL_ERROR, "The gateway's log has the details, under the request id.")
