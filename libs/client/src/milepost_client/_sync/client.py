# Made from _async/client.py by 'make contracts': change it there.
"""The SDK's entry point: submit jobs, and read and control them."""

import json
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from os import PathLike, environ
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel

from milepost_client._sync import listing
from milepost_client._sync.group import JobGroup
from milepost_client._sync.handle import JobHandle
from milepost_client._sync.transport import Transport
from milepost_client._sync.watching import watch_jobs
from milepost_client.arguments import Duration, seconds, several
from milepost_client.environment import api_key_from_environment
from milepost_client.errors import PartlySubmitted
from milepost_client.files import LocalFile, find_files
from milepost_client.submissions import BatchItem, Refusal, Submission, SubmittedBatch, in_requests
from milepost_contracts.http.dead_letters import DeadLetterPage
from milepost_contracts.http.webhooks import WebhookTries
from milepost_contracts.messages.worker_events import Heartbeat, JobType, QueueInfo
from milepost_contracts.states import Status
from milepost_contracts.status.document import JobDocument

DEFAULT_URL = "http://127.0.0.1:8800"
URL_VARIABLE = "MILEPOST_URL"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/\[\]]+)(/.*)?$")
RETRY_TIMEOUT = timedelta(seconds=10)
BATCH_RETRY_INTERVAL = 0.5
"""Seconds between two submissions of a batch of which the broker did not accept every job."""


class Client:
    """A client of one gateway. Use it as a context manager.

    Safe requests are retried for up to `retry_timeout` while the gateway can't be reached or asks to retry later.
    Submissions are retried too: each has an `Idempotency-Key`.

    Args:
        url: URL of the gateway; by default `MILEPOST_URL`, or http://127.0.0.1:8800.
        api_key: An API key or a JSON Web Token; by default `MILEPOST_API_KEY`, or the contents of the file that
            `MILEPOST_API_KEY_FILE` names.
        retry_timeout: How long a request is retried: a `timedelta`, or seconds.
        http: Your own HTTP client, for proxies, certificates, or a `milepost_client.testing.FakeGateway`.

    Raises:
        ValueError: The URL or the key is invalid, or the key's file can't be read.
        TypeError: `retry_timeout` is neither a `timedelta` nor a number.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        retry_timeout: Duration = RETRY_TIMEOUT,
        http: httpx.Client | None = None,
    ) -> None:
        retried_for = seconds("retry_timeout", retry_timeout)
        self._http = http or httpx.Client(timeout=TIMEOUT)
        if key := (api_key or api_key_from_environment() or "").strip():
            if not (key.isascii() and key.isprintable()):
                raise ValueError("The API key has characters other than printable ASCII.")
            self._http.headers["Authorization"] = f"Bearer {key}"
        base_url = url or environ.get(URL_VARIABLE) or DEFAULT_URL
        if not _URL.match(base_url):
            raise ValueError(f"{base_url!r} is not a gateway URL. Example: {DEFAULT_URL}")
        self._transport = Transport(base_url, self._http, retry_timeout=retried_for)

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
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        type: str,
        params: Mapping[str, Any] | BaseModel | None = None,
        *,
        files: Sequence[LocalFile | str | PathLike[str]] = (),
        tags: Sequence[str] = (),
        run_at: datetime | None = None,
        delay: Duration | None = None,
        expires_in: Duration | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """Submit a job; when this returns, the job is accepted durably.

        Args:
            type: One of the announced job types.
            params: The params, valid for the type's schema: a mapping, or a pydantic model.
            files: Files to upload: paths of files and folders, or `LocalFile`s with custom names.
            tags: Tags to find the job by.
            run_at: Do not start the job before this time; with a time zone.
            delay: Do not start the job before this much time has passed; either this or `run_at`. A
                `timedelta` or seconds, as `expires_in`.
            expires_in: How long the job may wait to start, from `run_at` or the end of `delay`; 7 days by default. Then
                it fails.
            callback_url: URL that receives a webhook when the job ends.
            idempotency_key: Identifies the operation, for example `order-17`: for a day the same key is the same job,
                also from another process. By default each call has a key of its own.

        Raises:
            Refused: The submission is invalid; `.problem.errors` says where.
            Unavailable: The job was not accepted, or the outcome is unknown (`.problem.job_id` is its id then).
            ValueError: The params can't be represented as JSON.
            FileNotFoundError: There is no such file or folder.
            TypeError: `files` or `tags` is a single text, `run_at` has no time zone, or a duration is neither
                `timedelta` nor number.
        """
        job = Submission(
            type=type,
            params=params,
            tags=tags,
            run_at=run_at,
            delay=delay,
            expires_in=expires_in,
            callback_url=callback_url,
        ).body()

        found = (([file] if isinstance(file, LocalFile) else find_files([file])) for file in several("files", files))
        uploads = [one for some in found for one in some]

        def body() -> dict[str, Any]:
            if not uploads:
                return {"json": job}
            return {
                "data": {"job": json.dumps(job)},
                "files": [("file", (file.name, file.lazy())) for file in uploads],
            }

        headers = _key(idempotency_key or uuid4().hex)
        response = self._transport.send("POST", "/v1/jobs", body=body, retry=True, headers=headers)
        return self._handle(response)

    def submit_many(self, submissions: Iterable[Submission], *, idempotency_key: str | None = None) -> JobGroup:
        """Submit many jobs, up to a thousand per request; each is accepted or refused on its own.

        Args:
            submissions: The jobs; the iterable is read request by request.
            idempotency_key: As for `submit`: for a day, the same key with the same jobs creates them once.

        Raises:
            PartlySubmitted: At least one request succeeded and a later one failed; `.group` has the submitted jobs.
            Refused: The gateway refused the first request.
            Unavailable: The gateway is unavailable.
            ValueError: The params of a job can't be represented as JSON.
        """
        name = idempotency_key or uuid4().hex
        batch_ids: list[str] = []
        items: list[BatchItem] = []
        try:
            for number, jobs in enumerate(in_requests(submissions)):
                batch = self._submit_batch(jobs, f"{name}-{number}")
                batch_ids += [batch.id] if batch.id else []
                items += batch.items
        except Exception as error:  # from the gateway, or from the iterable of submissions
            if not items:
                raise
            raise PartlySubmitted(self._group(batch_ids, items), error) from error
        return self._group(batch_ids, items)

    def _submit_batch(self, jobs: Sequence[bytes], key: str) -> SubmittedBatch:
        """Submit one request of jobs; repeat it with the same key while the broker has not accepted all of them."""
        content = b'{"jobs":[' + b",".join(jobs) + b"]}"
        headers = {**_key(key), "Content-Type": "application/json"}
        until = monotonic() + self._transport.retry_timeout
        while True:
            response = self._transport.send("POST", "/v1/jobs:batch", content=content, retry=True, headers=headers)
            batch = SubmittedBatch.model_validate_json(response.content)
            if not batch.needs_retry or monotonic() > until:
                return batch
            sleep(BATCH_RETRY_INTERVAL)

    def _group(self, batch_ids: Sequence[str], items: Sequence[BatchItem]) -> JobGroup:
        refused = [Refusal(index, item.problem) for index, item in enumerate(items) if item.problem is not None]
        job_ids = [None if item.problem else item.job_id for item in items]
        return JobGroup(self._transport, batch_ids, job_ids=job_ids, refused=refused)

    def retry(self, job_id: str) -> JobHandle:
        """Run an ended job again with the same id, params and files.

        Raises:
            JobNotFound: The job does not exist, was deleted, or is past its retention.
            Refused: The job has not ended, or has reached the maximum number of runs.
        """
        return self._handle(self._transport.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry"))

    def delete(self, job_id: str) -> None:
        """Delete an ended job and its files.

        Raises:
            JobNotFound: The job does not exist, was deleted, or is past its retention.
            Refused: The job has not ended, or the key lacks the scope `admin`.
        """
        self._transport.send("DELETE", f"/v1/jobs/{quote(job_id, safe='')}")

    def group(self, *batch_ids: str) -> JobGroup:
        """Return the group of the jobs of these batches."""
        return JobGroup(self._transport, batch_ids)

    def watch(self, *handles: JobHandle) -> Generator[JobHandle, None]:
        """Yield the handle of each job whose document has changed, until all jobs have ended.

        Up to 100 jobs share one event stream; more jobs, or jobs behind a proxy that does not stream, are polled.

        Raises:
            JobNotFound: A job was deleted, or is past its retention.
            Unavailable: The gateway has not answered for 30 seconds.
        """
        with closing(watch_jobs(self._transport, handles)) as changed:
            for handle in changed:
                yield handle

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job.

        Raises:
            JobNotFound: The job does not exist, was deleted, or is past its retention.
        """
        return self._handle(self._transport.send("GET", f"/v1/jobs/{quote(job_id, safe='')}"))

    def cancel(self, job_id: str) -> JobHandle:
        """Request that a job be canceled; its document shows later when and how the cancel took effect.

        Raises:
            JobNotFound: The job does not exist, was deleted, or is past its retention.
            Refused: The job has already ended.
        """
        return self._handle(self._transport.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", retry=True))

    def jobs(
        self,
        *,
        status: Status | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        batch: str | None = None,
        limit: int = 50,
    ) -> Generator[JobDocument, None]:
        """Yield up to `limit` jobs, newest first; pages are fetched as needed."""
        wanted = {"status": status and str(status), "type": type, "queue": queue, "tag": tag, "batch": batch}
        query = {name: value for name, value in wanted.items() if value is not None}
        with closing(listing.jobs(self._transport, query, limit=limit)) as found:
            for document in found:
                yield document

    def counts(self) -> dict[Status, int]:
        """Return the number of jobs in each state."""
        found: dict[str, int] = (self._transport.send("GET", "/v1/jobs/counts")).json()
        return {Status(status): count for status, count in found.items()}

    def types(self) -> list[JobType]:
        """Return the job types that can be submitted."""
        items = (self._transport.send("GET", "/v1/job-types")).json()["items"]
        return [JobType.model_validate(item) for item in items]

    def processors(self) -> list[Heartbeat]:
        """Return the latest heartbeat of each live processor."""
        items = (self._transport.send("GET", "/v1/processors")).json()["items"]
        return [Heartbeat.model_validate(item) for item in items]

    def queues(self) -> list[QueueInfo]:
        """Return the queues, with the number of waiting jobs and of live processors."""
        items = (self._transport.send("GET", "/v1/queues")).json()["items"]
        return [QueueInfo.model_validate(item) for item in items]

    def dead_letters(self, *, type: str | None = None, queue: str | None = None, limit: int = 50) -> DeadLetterPage:
        """Return dead-lettered jobs and unreadable messages, newest first."""
        query = {name: value for name, value in (("type", type), ("queue", queue)) if value is not None}
        response = self._transport.send("GET", "/v1/dead-letters", params={**query, "limit": limit})
        return DeadLetterPage.model_validate_json(response.content)

    def redrive(self, job_id: str) -> JobHandle:
        """Redrive a dead-lettered job: submit it again as its next run.

        Raises:
            JobNotFound: The job does not exist.
            Refused: The job is not dead-lettered.
        """
        return self._handle(self._transport.send("POST", f"/v1/dead-letters/{quote(job_id, safe='')}/redrive"))

    def redrive_many(
        self,
        *,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        rate: float | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Redrive many dead-lettered jobs, oldest first; return their ids.

        Args:
            type: Only jobs of this type.
            queue: Only jobs of this queue.
            limit: Maximum number of jobs, up to 1,000.
            rate: Jobs per second; unlimited by default.
            dry_run: Only return the ids, redrive nothing.
        """
        wanted = {"type": type, "queue": queue, "limit": limit, "rate": rate, "dry_run": dry_run}
        response = self._transport.send("POST", "/v1/dead-letters:redrive", json=wanted)
        found: list[str] = response.json()["job_ids"]
        return found

    def webhooks(self, job_id: str) -> WebhookTries:
        """Return the delivery attempts of a job's webhooks.

        Raises:
            Refused: The job has no callback URL.
        """
        return WebhookTries.model_validate_json(
            (self._transport.send("GET", f"/v1/jobs/{quote(job_id, safe='')}/webhooks")).content
        )

    def redeliver_webhook(self, job_id: str) -> str:
        """Send the webhook of a job's end again, even if it was delivered, and return its `webhook-id`.

        Raises:
            Refused: The job has no callback URL, or has not ended.
        """
        answer = self._transport.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/webhooks/redeliver")
        return str(answer.json()["webhook_id"])

    def webhook_secrets(self) -> list[str]:
        """Return the secrets that receivers verify webhooks with, newest first.

        Raises:
            Refused: The key lacks the scope `admin`, or webhooks are not configured.
        """
        return [str(secret) for secret in (self._transport.send("GET", "/v1/webhook-secrets")).json()["items"]]

    def _handle(self, response: httpx.Response) -> JobHandle:
        return JobHandle(self._transport, response)


def _key(text: str) -> dict[str, str]:
    """Return the header `Idempotency-Key` as a structured-field string (RFC 8941 §3.3.3)."""
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError("The idempotency key must be printable ASCII.")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return {"Idempotency-Key": f'"{escaped}"'}
