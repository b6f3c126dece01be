# Made from _async/client.py by 'make contracts': change it there.
"""The SDK's entry: hand jobs over, find them again."""

import json
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from os import PathLike, environ
from pathlib import Path
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
from milepost_client._sync.watching import follow
from milepost_client.errors import PartlyHandedOver
from milepost_client.files import LocalFile, find_files
from milepost_client.submissions import BatchItem, HandedOver, Refusal, Submission, in_requests
from milepost_contracts.dead_letters import DeadLetters
from milepost_contracts.document import JobDocument
from milepost_contracts.fleet import Beat, JobType, QueueInfo
from milepost_contracts.states import Status
from milepost_contracts.webhooks import WebhookTries

DEFAULT_URL = "http://127.0.0.1:8800"
URL_VARIABLE = "MILEPOST_URL"
KEY_VARIABLE = "MILEPOST_API_KEY"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/\[\]]+)(/.*)?$")
PATIENCE = timedelta(seconds=10)
AGAIN = 0.5
"""Seconds until those of many jobs are handed over again that the broker did not take."""


class Client:
    """Talks to one gateway. Use it as a context manager.

    Requests that do no harm when they come twice are repeated while the gateway can't be reached or says to come
    back, up to `patience`: so are submissions, for each has an `Idempotency-Key`.

    Args:
        url: The gateway's; by default what is in `MILEPOST_URL`, or the one on this machine.
        api_key: Who asks: an API key or a JSON Web Token; by default what is in `MILEPOST_API_KEY`.
        patience: For how long a request is repeated.
        http: Of your own, for proxies, certificates, or a `milepost_client.testing.FakeGateway`.

    Raises:
        ValueError: The URL or the key can't be one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience: timedelta = PATIENCE,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(timeout=TIMEOUT)
        if key := (api_key or environ.get(KEY_VARIABLE) or "").strip():
            if not (key.isascii() and key.isprintable()):
                raise ValueError("an API key has visible ASCII characters alone, and this one has others")
            self._http.headers["Authorization"] = f"Bearer {key}"
        place = url or environ.get(URL_VARIABLE) or DEFAULT_URL
        if not _URL.match(place):
            raise ValueError(f"{place!r} is no URL of a gateway, such as {DEFAULT_URL}")
        self._transport = Transport(place, self._http, patience=patience)

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
        delay: timedelta | None = None,
        expires_in: timedelta | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """Hand a job over; once this returns, the job will run.

        Args:
            type: One of the announced job types.
            params: What its schema asks for: a mapping, or a pydantic model.
            files: What to send along: paths of files and folders, or `LocalFile`s with names of your own.
            tags: Words of your own.
            run_at: Not before this time; with a time zone.
            delay: Not before so long from now; either this or `run_at`.
            expires_in: How long the job may wait to be started from then on; 7 days by default.
            callback_url: Where its end is to be told, by a webhook.
            idempotency_key: Names what you do, for example `order-17`: within a day the same key is the same job,
                also from another process. Each call has one of its own by default.

        Raises:
            Refused: The submission does not fit; `.problem.errors` says where.
            Unavailable: The job was not accepted, or nobody can say (`.problem.job_id` is its id then).
            ValueError: The params have no JSON form.
            FileNotFoundError: There is no such file or folder.
        """
        told = Submission(
            type=type,
            params=params,
            tags=tags,
            run_at=run_at,
            delay=delay,
            expires_in=expires_in,
            callback_url=callback_url,
        ).body()

        sent = [one for file in files for one in ([file] if isinstance(file, LocalFile) else find_files([Path(file)]))]

        def body() -> dict[str, Any]:
            if not sent:
                return {"json": told}
            return {
                "data": {"job": json.dumps(told)},
                "files": [("file", (file.name, file.opened_late())) for file in sent],
            }

        headers = _key(idempotency_key or uuid4().hex)
        response = self._transport.send("POST", "/v1/jobs", body=body, repeat=True, headers=headers)
        return self._handle(response)

    def submit_many(self, submissions: Iterable[Submission], *, idempotency_key: str | None = None) -> JobGroup:
        """Hand many jobs over, each accepted or refused by itself; a thousand in a request.

        Args:
            submissions: The jobs; they are read as they are handed over.
            idempotency_key: As for `submit`: within a day, the same key with the same jobs makes them once.

        Raises:
            PartlyHandedOver: Some requests were successful, and a later one was not; `.group` has their jobs.
            Unavailable: The gateway does not take them now.
            ValueError: The params of one have no JSON form.
        """
        name = idempotency_key or uuid4().hex
        batch_ids: list[str] = []
        items: list[BatchItem] = []
        try:
            for number, jobs in enumerate(in_requests(submissions)):
                batch = self._hand_over(jobs, f"{name}-{number}")
                batch_ids += [batch.id] if batch.id else []
                items += batch.items
        except Exception as error:  # of the gateway, or of whoever makes the submissions
            if not items:
                raise
            raise PartlyHandedOver(self._group(batch_ids, items), error) from error
        return self._group(batch_ids, items)

    def _hand_over(self, jobs: Sequence[bytes], key: str) -> HandedOver:
        """Hand some over; those that the broker did not take once more, which the same key makes the same jobs."""
        content = b'{"jobs":[' + b",".join(jobs) + b"]}"
        headers = {**_key(key), "Content-Type": "application/json"}
        until = monotonic() + self._transport.patience.total_seconds()
        while True:
            response = self._transport.send("POST", "/v1/jobs:batch", content=content, repeat=True, headers=headers)
            told = HandedOver.model_validate_json(response.content)
            if not told.to_repeat or monotonic() > until:
                return told
            sleep(AGAIN)

    def _group(self, batch_ids: Sequence[str], items: Sequence[BatchItem]) -> JobGroup:
        refused = [Refusal(index, item.problem) for index, item in enumerate(items) if item.problem is not None]
        job_ids = [None if item.problem else item.job_id for item in items]
        return JobGroup(self._transport, batch_ids, job_ids=job_ids, refused=refused)

    def retry(self, job_id: str) -> JobHandle:
        """Run a job again that has ended: the same id, params and files.

        Raises:
            JobNotFound: There is no such job, or nothing is kept of it any more.
            Refused: It has not ended yet, or has run as often as a job can.
        """
        return self._handle(self._transport.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry"))

    def forget(self, job_id: str) -> None:
        """Have a job forgotten that has ended, with its files.

        Raises:
            JobNotFound: There is no such job, or nothing is kept of it any more.
            Refused: It has not ended yet, or the key may not do this.
        """
        self._transport.send("DELETE", f"/v1/jobs/{quote(job_id, safe='')}")

    def group(self, *batch_ids: str) -> JobGroup:
        """Find jobs again that were handed over together."""
        return JobGroup(self._transport, batch_ids)

    def watch(self, *handles: JobHandle) -> Generator[JobHandle, None]:
        """Yield each of some jobs whenever its document has changed, until all have ended; over one stream.

        Raises:
            Unavailable: The gateway has not answered for half a minute.
        """
        with closing(follow(self._transport, handles)) as changed:
            for handle in changed:
                yield handle

    def job(self, job_id: str) -> JobHandle:
        """Find a job again.

        Raises:
            JobNotFound: There is no such job, or nothing is kept of it any more.
        """
        return self._handle(self._transport.send("GET", f"/v1/jobs/{quote(job_id, safe='')}"))

    def cancel(self, job_id: str) -> JobHandle:
        """Ask that a job be canceled; that it took effect, the document says later.

        Raises:
            JobNotFound: There is no such job, or nothing is kept of it any more.
            Refused: It has ended already.
        """
        return self._handle(self._transport.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", repeat=True))

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
        """Yield up to `limit` jobs, newest first, over as many pages as it takes."""
        wanted = {"status": status and str(status), "type": type, "queue": queue, "tag": tag, "batch": batch}
        query = {name: value for name, value in wanted.items() if value is not None}
        with closing(listing.jobs(self._transport, query, limit=limit)) as found:
            for document in found:
                yield document

    def counts(self) -> dict[Status, int]:
        """Return how many jobs there are in each state."""
        found: dict[str, int] = (self._transport.send("GET", "/v1/jobs/counts")).json()
        return {Status(status): count for status, count in found.items()}

    def types(self) -> list[JobType]:
        """Return what can be submitted."""
        items = (self._transport.send("GET", "/v1/job-types")).json()["items"]
        return [JobType.model_validate(item) for item in items]

    def processors(self) -> list[Beat]:
        """Return the processors that are alive, as they last told of themselves."""
        items = (self._transport.send("GET", "/v1/processors")).json()["items"]
        return [Beat.model_validate(item) for item in items]

    def queues(self) -> list[QueueInfo]:
        """Return the queues, and who serves them."""
        items = (self._transport.send("GET", "/v1/queues")).json()["items"]
        return [QueueInfo.model_validate(item) for item in items]

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
        return WebhookTries.model_validate_json(
            (self._transport.send("GET", f"/v1/jobs/{quote(job_id, safe='')}/webhooks")).content
        )

    def redeliver_webhook(self, job_id: str) -> str:
        """Have the webhook of a job's end sent again, whatever became of it, and return its `webhook-id`.

        Raises:
            Refused: There is none: no callback URL, or no end yet.
        """
        answer = self._transport.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/webhooks/redeliver")
        return str(answer.json()["webhook_id"])

    def webhook_secrets(self) -> list[str]:
        """Return the secrets that receivers verify webhooks with, newest first.

        Raises:
            Refused: The key may not ask for them, or this deployment sends no webhooks.
        """
        return [str(secret) for secret in (self._transport.send("GET", "/v1/webhook-secrets")).json()["items"]]

    def _handle(self, response: httpx.Response) -> JobHandle:
        return JobHandle(self._transport, response)


def _key(text: str) -> dict[str, str]:
    """A structured field (RFC 8941 §3.3.3)."""
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError("an idempotency key is printable ASCII")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return {"Idempotency-Key": f'"{escaped}"'}
