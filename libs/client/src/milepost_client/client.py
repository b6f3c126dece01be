"""The SDK's entry: hand jobs over, find them again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from os import environ
from types import TracebackType
from typing import Any, Self

import httpx

from milepost_client.files import LocalFile
from milepost_client.handle import JobHandle
from milepost_client.transport import Transport, retry_after
from milepost_contracts.document import JobDocument
from milepost_contracts.fleet import JobType
from milepost_contracts.states import Status

DEFAULT_URL = "http://127.0.0.1:8800"
URL_VARIABLE = "MILEPOST_URL"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Client:
    """Talks to one gateway: the one at `url`, in `MILEPOST_URL`, or on this machine. Use it as a context manager."""

    def __init__(self, url: str | None = None, *, http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(timeout=TIMEOUT)
        self._transport = Transport(url or environ.get(URL_VARIABLE) or DEFAULT_URL, self._http)

    @property
    def url(self) -> str:
        return self._transport.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        *,
        files: Sequence[LocalFile] = (),
        tags: Sequence[str] = (),
    ) -> JobHandle:
        """Hand a job over; once this returns, the job will run.

        Raises:
            Refused: The submission does not fit; `.problem.errors` says where.
            Unavailable: The job was not accepted, or nobody can say (`.problem.job_id` is its id then).
        """
        submission = {"type": type, "params": dict(params or {}), "tags": list(tags)}
        body: dict[str, Any] = {"json": submission}
        if files:
            body = {
                "data": {"job": json.dumps(submission)},
                "files": [("file", (file.name, file.opened_late())) for file in files],
            }
        response = self._transport.send("POST", "/v1/jobs", **body)
        return self._handle(response)

    def job(self, job_id: str) -> JobHandle:
        """Find a job again.

        Raises:
            JobNotFound: There is no such job, or nothing is kept of it any more.
        """
        return self._handle(self._transport.send("GET", f"/v1/jobs/{job_id}"))

    def jobs(
        self,
        *,
        status: Status | None = None,
        type: str | None = None,
        limit: int = 50,
    ) -> Iterator[JobDocument]:
        """Yield up to `limit` jobs, newest first, over as many pages as it takes."""
        query: dict[str, Any] = {"limit": min(limit, 200)}
        if status is not None:
            query["status"] = str(status)
        if type is not None:
            query["type"] = type
        while limit > 0:
            page = self._transport.send("GET", "/v1/jobs", params=query).json()
            for item in page["items"][:limit]:
                yield JobDocument.model_validate(item)
            limit -= len(page["items"])
            if page["next"] is None:
                return
            query["cursor"] = httpx.URL(page["next"]).params["cursor"]

    def types(self) -> list[JobType]:
        """Return what can be submitted."""
        items = self._transport.send("GET", "/v1/job-types").json()["items"]
        return [JobType.model_validate(item) for item in items]

    def _handle(self, response: httpx.Response) -> JobHandle:
        return JobHandle(
            self._transport,
            JobDocument.model_validate_json(response.content),
            etag=response.headers.get("etag"),
            look_again_in=retry_after(response),
        )
