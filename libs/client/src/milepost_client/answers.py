"""What a gateway's answer means: a pause to make, an error of `errors`, or a document."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pydantic_core
from pydantic import ValidationError

from milepost_client.errors import JobNotFound, Refused, Unavailable
from milepost_contracts.document import JobDocument, render_state
from milepost_contracts.events import JobEvent
from milepost_contracts.problems import MEDIA_TYPE, Problem, ProblemType


def retry_after(response: httpx.Response, default: float = 1.0) -> float:
    """Seconds that the gateway asks to wait before the next look."""
    text = response.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return default


def shown(base_url: str) -> str:
    """Return a URL without the name and password that may be in it."""
    return str(httpx.URL(base_url).copy_with(userinfo=b""))


def error_of(base_url: str, response: httpx.Response) -> Refused | Unavailable:
    """Return what an answer that is no success means."""
    problem = None
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            problem = None
    if problem is None:
        return Unavailable(
            f"{shown(base_url)} answered {response.status_code}, not as a Milepost gateway does.",
            retry_after=retry_after(response),
            passing=response.is_server_error,
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
    return JobDocument.model_validate({**state, "version": version, "cancel_requested": known.cancel_requested})
