"""The SDK's entry: hand jobs over, find them again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from os import environ
from types import TracebackType
from typing import Any, Self

import httpx

from milepost_client.files import LocalFile
from milepost_client.handle import JobHandle
from milepost_client.transport import Transport, retry_after
from milepost_contracts.dead_letters import DeadLetters
from milepost_contracts.document import JobDocument
from milepost_contracts.fleet import JobType
from milepost_contracts.states import Status
from milepost_contracts.webhooks import WebhookTries

DEFAULT_URL = "http://127.0.0.1:8800"
URL_VARIABLE = "MILEPOST_URL"
KEY_VARIABLE = "MILEPOST_API_KEY"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Client:
    """Talks to one gateway: the one at `url`, in `MILEPOST_URL`, or on this machine. Use it as a context manager.

    It says who asks with `api_key`, or what is in `MILEPOST_API_KEY`: an API key or a JSON Web Token.
    """

    def __init__(self, url: str | None = None, *, api_key: str | None = None, http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(timeout=TIMEOUT)
        if key := api_key or environ.get(KEY_VARIABLE):
            self._http.headers["Authorization"] = f"Bearer {key}"
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
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        expires_in: timedelta | None = None,
        callback_url: str | None = None,
    ) -> JobHandle:
        """Hand a job over; once this returns, the job will run.

        Args:
            type: One of the announced job types.
            params: What its schema asks for.
            files: What to send along.
            tags: Words of your own.
            run_at: Not before this time; with a time zone.
            delay: Not before so long from now; either this or `run_at`.
            expires_in: How long the job may wait to be started from then on; 7 days by default.
            callback_url: Where its end is to be told, by a webhook.

        Raises:
            Refused: The submission does not fit; `.problem.errors` says where.
            Unavailable: The job was not accepted, or nobody can say (`.problem.job_id` is its id then).
        """
        submission: dict[str, Any] = {"type": type, "params": dict(params or {}), "tags": list(tags)}
        if run_at is not None:
            submission["run_at"] = run_at.isoformat()
        if callback_url is not None:
            submission["callback_url"] = callback_url
        for name, length in (("delay", delay), ("expires_in", expires_in)):
            if length is not None:
                submission[name] = length.total_seconds()
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

    def cancel(self, job_id: str) -> JobHandle:
        """Ask that a job be canceled; that it took effect, the document says later.

        Raises:
            JobNotFound: There is no such job, or nothing is kept of it any more.
            Refused: It has ended already.
        """
        return self._handle(self._transport.send("POST", f"/v1/jobs/{job_id}/cancel"))

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

    def dead_letters(self, *, type: str | None = None, queue: str | None = None, limit: int = 50) -> DeadLetters:
        """Return what the broker gave up, newest first."""
        query = {name: value for name, value in (("type", type), ("queue", queue)) if value is not None}
        response = self._transport.send("GET", "/v1/dead-letters", params={**query, "limit": limit})
        return DeadLetters.model_validate_json(response.content)

    def redrive(self, job_id: str) -> JobHandle:
        """Hand a job over again that the broker gave up.

        Raises:
            Refused: It was not given up.
        """
        return self._handle(self._transport.send("POST", f"/v1/dead-letters/{job_id}/redrive"))

    def redrive_many(
        self,
        *,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        rate: float | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Hand many jobs over again that the broker gave up, oldest first; return their ids.

        Args:
            type: Only jobs of this type.
            queue: Only jobs of this queue.
            limit: How many at most; 1,000 is the most.
            rate: How many a second; all at once by default.
            dry_run: Only say which it would be.
        """
        wanted = {"type": type, "queue": queue, "limit": limit, "rate": rate, "dry_run": dry_run}
        response = self._transport.send("POST", "/v1/dead-letters:redrive", json=wanted)
        found: list[str] = response.json()["job_ids"]
        return found

    def webhooks(self, job_id: str) -> WebhookTries:
        """Return what became of a job's webhooks.

        Raises:
            Refused: It was handed over without a callback URL.
        """
        return WebhookTries.model_validate_json(self._transport.send("GET", f"/v1/jobs/{job_id}/webhooks").content)

    def redeliver_webhook(self, job_id: str) -> str:
        """Have the webhook of a job's end sent again, whatever became of it, and return its `webhook-id`.

        Raises:
            Refused: There is none: no callback URL, or no end yet.
        """
        answer = self._transport.send("POST", f"/v1/jobs/{job_id}/webhooks/redeliver")
        return str(answer.json()["webhook_id"])

    def webhook_secrets(self) -> list[str]:
        """Return the secrets that receivers verify webhooks with, newest first.

        Raises:
            Refused: The key may not ask for them, or this deployment sends no webhooks.
        """
        return [str(secret) for secret in self._transport.send("GET", "/v1/webhook-secrets").json()["items"]]

    def _handle(self, response: httpx.Response) -> JobHandle:
        return JobHandle(
            self._transport,
            JobDocument.model_validate_json(response.content),
            etag=response.headers.get("etag"),
            look_again_in=retry_after(response),
        )
