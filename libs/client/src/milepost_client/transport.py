"""HTTP under the SDK: what the gateway answers becomes a document or an error of `errors`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from milepost_client.errors import JobNotFound, Refused, Unavailable
from milepost_contracts.problems import MEDIA_TYPE, Problem


class Transport:
    """Sends requests to one gateway."""

    def __init__(self, base_url: str, http: httpx.Client) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = http

    def send(self, method: str, path: str, *, extra_time: float = 0.0, **options: Any) -> httpx.Response:
        """Return the response, if it is a success or a 304. It may come `extra_time` seconds later than usual.

        Raises:
            Refused: A problem that sending again would not change.
            Unavailable: No answer, or one that says to come back later.
        """
        usual = self._http.timeout.as_dict()
        if extra_time and usual["read"] is not None:
            options["timeout"] = httpx.Timeout(**usual | {"read": usual["read"] + extra_time})
        try:
            response = self._http.request(method, self.base_url + path, **options)
        except httpx.TransportError as error:
            raise Unavailable(f"{self.base_url} can't be reached: {error or type(error).__name__}") from error
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise _error(self.base_url, response)

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """Open a response whose body comes piece by piece.

        Raises:
            Refused, Unavailable: As `send` does.
        """
        try:
            with self._http.stream("GET", self.base_url + path) as response:
                if not response.is_success:
                    response.read()
                    raise _error(self.base_url, response)
                yield response
        except httpx.TransportError as error:
            raise Unavailable(f"{self.base_url} can't be reached: {error or type(error).__name__}") from error


def retry_after(response: httpx.Response, default: float = 1.0) -> float:
    """Seconds that the gateway asks to wait before the next look."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else default


def _error(base_url: str, response: httpx.Response) -> Refused | Unavailable:
    problem = None
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            problem = None
    if problem is None:
        return Unavailable(f"{base_url} answered {response.status_code}, not as a Milepost gateway does.")
    if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        job = f" (job_id: {problem.job_id})" if problem.job_id else ""
        return Unavailable(f"{problem.title}: {problem.detail}{job}", problem, retry_after=retry_after(response))
    if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        return JobNotFound(problem)
    return Refused(problem)
