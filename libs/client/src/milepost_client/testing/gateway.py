"""The in-memory gateway."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import httpx

from milepost_client._async.client import AsyncClient
from milepost_client._sync.client import Client
from milepost_client.testing.jobs import FakeJob, Handler
from milepost_contracts.http.problems import MEDIA_TYPE, Problem, ProblemType
from milepost_contracts.messages.job_events import encode_event
from milepost_contracts.messages.worker_events import JobType
from milepost_contracts.states import Status

URL = "http://gateway.test"


class FakeGateway(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An in-memory gateway that runs jobs with plain functions; each status request shows a job's next event.

    It supports submissions (with files, batches and idempotency keys), status, streams, results, lists, cancel, retry
    and delete. It does not validate params and does not authenticate.
    """

    def __init__(self) -> None:
        #: The submitted jobs by id, in order of submission; without deleted ones.
        self.jobs: dict[str, FakeJob] = {}
        #: If false, every request gets a 503.
        self.available = True
        self._count = 0
        self._handlers: dict[str, Handler | None] = {}
        self._batches: dict[str, list[str]] = {}
        #: The first request of each idempotency key, and its response.
        self._keys: dict[str, tuple[object, httpx.Response]] = {}

    def handle(self, type: str, handler: Handler | None) -> None:
        """Register the handler of a job type.

        Args:
            type: The job type; submissions of unregistered types are refused.
            handler: Takes the params, or the params and a `Report`. Its return value is the result; an exception fails
                the job. None for jobs that run until they are canceled.
        """
        self._handlers[type] = handler

    def client(self) -> Client:
        """Return a client of this gateway."""
        return Client(URL, http=httpx.Client(transport=self), retry_timeout=timedelta(0))

    def async_client(self) -> AsyncClient:
        """Return an asynchronous client of this gateway."""
        return AsyncClient(URL, http=httpx.AsyncClient(transport=self), retry_timeout=timedelta(0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response; see `httpx.BaseTransport`."""
        request.read()
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response; see `httpx.AsyncBaseTransport`."""
        await request.aread()
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not self.available:
            return _problem(ProblemType.NOT_ACCEPTED, "The fake gateway is set to unavailable.")
        if request.method != "POST" or not (key := request.headers.get("idempotency-key")):
            return self._route(request)
        body = _read_submission(request)
        if key not in self._keys:
            response = self._route(request)
            if response.is_success:
                self._keys[key] = body, response
            return response
        first, response = self._keys[key]
        return _copy(response) if first == body else _problem(ProblemType.KEY_REUSED, "The body is another one.")

    def _route(self, request: httpx.Request) -> httpx.Response:  # noqa: PLR0911 - a table
        match request.method, request.url.path.strip("/").split("/")[1:]:
            case "POST", ["jobs"]:
                return self._submit(*_read_submission(request))
            case "POST", ["jobs:batch"]:
                return self._submit_many(json.loads(request.content)["jobs"])
            case "GET", ["jobs"]:
                return self._list(request.url.params)
            case "GET", ["jobs", "counts"]:
                return httpx.Response(200, json=self._counts(self.jobs))
            case "GET", ["batches", batch_id] if batch_id in self._batches:
                return self._batch(batch_id)
            case "GET", ["events"]:
                return self._events(request)
            case "GET", ["job-types"]:
                return httpx.Response(200, json={"items": [_job_type(type) for type in self._handlers]})
            case method, ["jobs", job_id, *rest] if job_id in self.jobs:
                return self._job(method, self.jobs[job_id], rest, request)
        return _problem(ProblemType.UNKNOWN_JOB, "The fake gateway has no such resource.")

    def _job(self, method: str, job: FakeJob, rest: Sequence[str], request: httpx.Request) -> httpx.Response:
        ended = job.now.status.terminal
        match method, rest:
            case "GET", []:
                return self._status(job, request)
            case "GET", ["result"] if job.now.status is Status.SUCCEEDED:
                return httpx.Response(200, json=job.now.job.result)
            case "POST", ["cancel"] if not ended:
                job.cancel()
                return _document(job, 202)
            case "POST", ["retry"] if ended:
                job.retry(self._handlers[job.submission["type"]])
                return _document(job, 202)
            case "DELETE", [] if ended:
                del self.jobs[job.now.job.id]
                return httpx.Response(204)
        kind = ProblemType.JOB_ALREADY_FINISHED if ended else ProblemType.JOB_NOT_FINISHED
        return _problem(kind, f"The job is {job.now.status}.")

    def _submit(self, submission: dict[str, Any], files: dict[str, bytes], batch: str | None = None) -> httpx.Response:
        if submission["type"] not in self._handlers:
            known = ", ".join(sorted(self._handlers)) or "none"
            return _problem(ProblemType.UNKNOWN_JOB_TYPE, f"The fake gateway has handlers for: {known}.")
        self._count += 1
        job = FakeJob.submitted(f"fake{self._count:036d}", submission, files, batch)
        job.run(self._handlers[submission["type"]])
        self.jobs[job.now.job.id] = job
        return _document(job, 202)

    def _status(self, job: FakeJob, request: httpx.Request) -> httpx.Response:
        waits = "wait=" in request.headers.get("prefer", "")
        known = request.headers.get("if-none-match")
        if known is None or known == f'"{job.shown}"':
            job.advance()
            while waits and known is None and not (job.now.status.terminal or job.at_last_event):
                job.advance()
        if known == f'"{job.shown}"':
            return httpx.Response(304, headers={"ETag": known, "Retry-After": "1"})
        return _document(job, 200)

    def _submit_many(self, submissions: Sequence[dict[str, Any]]) -> httpx.Response:
        batch_id = f"fakebatch{len(self._batches) + 1}"
        self._batches[batch_id] = []
        items: list[dict[str, Any]] = []
        for submission in submissions:
            answer = self._submit(submission, {}, batch_id)
            if answer.is_success:
                job_id = answer.json()["id"]
                self._batches[batch_id].append(job_id)
                items.append({"status": 202, "job_id": job_id})
            else:
                items.append({"status": answer.status_code, "problem": answer.json()})
        found = bool(self._batches[batch_id])
        return httpx.Response(207, json={"id": batch_id if found else None, "items": items})

    def _batch(self, batch_id: str) -> httpx.Response:
        job_ids = self._batches[batch_id]
        for job_id in job_ids:
            if job_id in self.jobs:
                self.jobs[job_id].advance()
        body = {"size": len(job_ids), "counts": self._counts(job_ids)}
        return httpx.Response(200, json=body, headers={"Retry-After": "0"})

    def _counts(self, job_ids: Iterable[str]) -> dict[str, int]:
        return dict(Counter(str(self.jobs[job_id].now.status) for job_id in job_ids if job_id in self.jobs))

    def _list(self, wanted: httpx.QueryParams) -> httpx.Response:
        found = [job for job in reversed(self.jobs.values()) if _matches(job, wanted)]
        begin = int(wanted.get("cursor", "0"))
        end = begin + int(wanted.get("limit", "50"))
        items = b",".join(job.body() for job in found[begin:end])
        link = f"{URL}/v1/jobs?cursor={end}" if end < len(found) else None
        return _json(200, b'{"items":[%b],"next":%b}' % (items, json.dumps(link).encode()))

    def _events(self, request: httpx.Request) -> httpx.Response:
        wanted = request.url.params.get_list("job")
        if any(job_id not in self.jobs for job_id in wanted):
            return _problem(ProblemType.UNKNOWN_JOB, "The fake gateway has no such job.")
        known = request.headers.get("last-event-id")
        seen = [int(one) for one in known.split(".")] if known else [0] * len(wanted)
        pieces = list(self._events_after(wanted, seen))
        if not pieces:
            return httpx.Response(204)
        return httpx.Response(200, content=b"".join(pieces), headers={"Content-Type": "text/event-stream"})

    def _events_after(self, job_ids: Sequence[str], seen: list[int]) -> Iterator[bytes]:
        for number, job_id in enumerate(job_ids):
            job = self.jobs[job_id]
            for version, event in enumerate(job.events, start=1):
                if version > seen[number]:
                    seen[number] = job.shown = version
                    cursor = ".".join(map(str, seen)).encode()
                    name = event.fact.removeprefix("job.").encode()
                    yield b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, name, encode_event(event))


def _job_type(type: str) -> dict[str, Any]:
    job_type = JobType(type=type, queue="default", title=type, params_schema={"type": "object"}, result_schema={})
    return job_type.model_dump(mode="json")


def _matches(job: FakeJob, wanted: httpx.QueryParams) -> bool:
    shown = job.now.job
    has = {"status": str(job.now.status), "type": shown.type, "queue": shown.queue, "batch": shown.batch}
    return all(wanted[name] == has[name] for name in has if name in wanted) and (
        "tag" not in wanted or wanted["tag"] in shown.tags
    )


def _document(job: FakeJob, status: int) -> httpx.Response:
    headers = {"ETag": f'"{job.shown}"', "Retry-After": "1" if job.at_last_event else "0"}
    return _json(status, job.body(), headers)


def _json(status: int, content: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, content=content, headers={"Content-Type": "application/json", **(headers or {})})


def _copy(response: httpx.Response) -> httpx.Response:
    return httpx.Response(response.status_code, content=response.content, headers=response.headers)


def _problem(kind: ProblemType, detail: str) -> httpx.Response:
    body = Problem.of(kind, detail).model_dump_json()
    return httpx.Response(kind.status, content=body, headers={"Content-Type": MEDIA_TYPE, "Retry-After": "1"})


def _read_submission(request: httpx.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a submission and its files."""
    kind = request.headers["content-type"]
    if kind == "application/json":
        return json.loads(request.content), {}
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + request.content)
    submission: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        content = bytes(part.get_payload(decode=True))
        if part.get_param("name", header="content-disposition") == "job":
            submission = json.loads(content)
        else:
            files[str(part.get_filename())] = content
    return submission, files
