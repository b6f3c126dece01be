"""Interpretation of gateway responses: retry delays, errors, documents."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pydantic_core
from pydantic import ValidationError

from milepost_client.errors import JobNotFound, Refused, Unavailable
from milepost_contracts.http.problems import MEDIA_TYPE, Problem, ProblemType
from milepost_contracts.messages.job_events import JobEvent
from milepost_contracts.status.document import JobDocument
from milepost_contracts.status.render import render_state


def retry_after(response: httpx.Response, default: float = 1.0) -> float:
    """Return the seconds to wait before the next request: `Retry-After`, or the default."""
    text = response.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return default


def without_credentials(base_url: str) -> str:
    """Return a URL without the name and password that may be in it."""
    return str(httpx.URL(base_url).copy_with(userinfo=b""))


def error_of(base_url: str, response: httpx.Response) -> Refused | Unavailable:
    """Return the error for a response that is not a success."""
    problem = None
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            problem = None
    if problem is None:
        url = without_credentials(base_url)
        return Unavailable(
            f"The response of {url} ({response.status_code}) is not from a Milepost gateway. Check the URL.",
            retry_after=retry_after(response),
            temporary=response.is_server_error,
        )
    if (
        response.is_server_error
        or response.status_code == httpx.codes.TOO_MANY_REQUESTS
        or problem.type == ProblemType.KEY_IN_FLIGHT.uri
    ):
        job = f" (job_id: {problem.job_id})" if problem.job_id else ""
        return Unavailable(f"{problem.title}: {problem.detail}{job}", problem, retry_after=retry_after(response))
    if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        return JobNotFound(problem)
    return Refused(problem)


def document_after(known: JobDocument, event: JobEvent, version: int) -> JobDocument:
    """Return the document of a live job after an event, as the gateway would render it."""
    state = pydantic_core.from_json(render_state(event, retention=timedelta(0)))
    head = {"version": version, "cancel_requested": known.cancel_requested, "waiting": None}
    return JobDocument.model_validate({**head, **state})
