"""What the gateway in memory answers."""

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
from milepost_contracts.events import encode_event
from milepost_contracts.fleet import JobType
from milepost_contracts.problems import MEDIA_TYPE, Problem, ProblemType
from milepost_contracts.states import Status

URL = "http://gateway.test"


class FakeGateway(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Takes jobs and runs them by functions; each look at a job shows the next thing that happens to it.

    It knows what the SDK asks: submissions (files, batches and idempotency keys among them), status, streams, results,
    lists, cancel, retry and delete. It does not check params, nor who asks.
    """

    def __init__(self) -> None:
        #: Every job that was handed over, by its id, in that order.
        self.jobs: dict[str, FakeJob] = {}
        #: Whether it answers; each request is a 503 otherwise.
        self.available = True
        self._count = 0
        self._handlers: dict[str, Handler | None] = {}
        self._batches: dict[str, list[str]] = {}
        #: What was asked with each key, and what was answered.
        self._keys: dict[str, tuple[object, httpx.Response]] = {}

    def handle(self, type: str, handler: Handler | None) -> None:
        """Say what jobs of a type do.

        Args:
            type: The job type; others are refused.
            handler: Takes the params, or the params and a `Report`. What it returns is the result; what it raises
                makes the job fail. Nothing for jobs that go on until they are canceled.
        """
        self._handlers[type] = handler

    def client(self) -> Client:
        """Return a client of this gateway."""
        return Client(URL, http=httpx.Client(transport=self), patience=timedelta(0))

    def async_client(self) -> AsyncClient:
        """Return an asynchronous client of this gateway."""
        return AsyncClient(URL, http=httpx.AsyncClient(transport=self), patience=timedelta(0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer; see `httpx.BaseTransport`."""
        request.read()
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer; see `httpx.AsyncBaseTransport`."""
        await request.aread()
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not self.available:
            return _problem(ProblemType.NOT_ACCEPTED, "this fake is not available")
        if request.method != "POST" or not (key := request.headers.get("idempotency-key")):
            return self._route(request)
        asked = _read(request)
        if key not in self._keys:
            answer = self._route(request)
            if answer.is_success:
                self._keys[key] = asked, answer
            return answer
        first, answer = self._keys[key]
        return _again(answer) if first == asked else _problem(ProblemType.KEY_REUSED, "with another body")

    def _route(self, request: httpx.Request) -> httpx.Response:  # noqa: PLR0911 - a table
        match request.method, request.url.path.strip("/").split("/")[1:]:
            case "POST", ["jobs"]:
                return self._submit(*_read(request))
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
                return httpx.Response(200, json={"items": [_announced(type) for type in self._handlers]})
            case method, ["jobs", job_id, *rest] if job_id in self.jobs:
                return self._job(method, self.jobs[job_id], rest, request)
        return _problem(ProblemType.UNKNOWN_JOB, "this fake does not know it")

    def _job(self, method: str, job: FakeJob, rest: Sequence[str], request: httpx.Request) -> httpx.Response:
        ended = job.now.status.terminal
        match method, rest:
            case "GET", []:
                return self._look(job, request)
            case "GET", ["result"] if job.now.status is Status.SUCCEEDED:
                return httpx.Response(200, json=job.now.job.result)
            case "POST", ["cancel"] if not ended:
                job.cancel()
                return _told(job, 202)
            case "POST", ["retry"] if ended:
                job.run_again(self._handlers[job.submission["type"]])
                return _told(job, 202)
            case "DELETE", [] if ended:
                del self.jobs[job.now.job.id]
                return httpx.Response(204)
        kind = ProblemType.JOB_ALREADY_FINISHED if ended else ProblemType.JOB_NOT_FINISHED
        return _problem(kind, f"the job is {job.now.status}")

    def _submit(self, submission: dict[str, Any], files: dict[str, bytes], batch: str | None = None) -> httpx.Response:
        if submission["type"] not in self._handlers:
            known = ", ".join(sorted(self._handlers)) or "none"
            return _problem(ProblemType.UNKNOWN_JOB_TYPE, f"this fake handles {known}")
        self._count += 1
        job = FakeJob.submitted(f"fake{self._count:036d}", submission, files, batch)
        job.run(self._handlers[submission["type"]])
        self.jobs[job.now.job.id] = job
        return _told(job, 202)

    def _look(self, job: FakeJob, request: httpx.Request) -> httpx.Response:
        waits = "wait=" in request.headers.get("prefer", "")
        known = request.headers.get("if-none-match")
        if known is None or known == f'"{job.shown}"':
            job.move_on()
            while waits and known is None and not (job.now.status.terminal or job.stalled):
                job.move_on()
        if known == f'"{job.shown}"':
            return httpx.Response(304, headers={"ETag": known, "Retry-After": "1"})
        return _told(job, 200)

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
                self.jobs[job_id].move_on()
        body = {"size": len(job_ids), "counts": self._counts(job_ids)}
        return httpx.Response(200, json=body, headers={"Retry-After": "0"})

    def _counts(self, job_ids: Iterable[str]) -> dict[str, int]:
        return dict(Counter(str(self.jobs[job_id].now.status) for job_id in job_ids if job_id in self.jobs))

    def _list(self, wanted: httpx.QueryParams) -> httpx.Response:
        found = [job for job in reversed(self.jobs.values()) if _fits(job, wanted)]
        begin = int(wanted.get("cursor", "0"))
        end = begin + int(wanted.get("limit", "50"))
        items = b",".join(job.body() for job in found[begin:end])
        link = f"{URL}/v1/jobs?cursor={end}" if end < len(found) else None
        return _json(200, b'{"items":[%b],"next":%b}' % (items, json.dumps(link).encode()))

    def _events(self, request: httpx.Request) -> httpx.Response:
        wanted = request.url.params.get_list("job")
        if any(job_id not in self.jobs for job_id in wanted):
            return _problem(ProblemType.UNKNOWN_JOB, "this fake does not know it")
        known = request.headers.get("last-event-id")
        seen = [int(one) for one in known.split(".")] if known else [0] * len(wanted)
        pieces = list(self._told_after(wanted, seen))
        if not pieces:
            return httpx.Response(204)
        return httpx.Response(200, content=b"".join(pieces), headers={"Content-Type": "text/event-stream"})

    def _told_after(self, job_ids: Sequence[str], seen: list[int]) -> Iterator[bytes]:
        for number, job_id in enumerate(job_ids):
            job = self.jobs[job_id]
            for version, event in enumerate(job.events, start=1):
                if version > seen[number]:
                    seen[number] = job.shown = version
                    cursor = ".".join(map(str, seen)).encode()
                    name = event.fact.removeprefix("job.").encode()
                    yield b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, name, encode_event(event))


def _announced(type: str) -> dict[str, Any]:
    told = JobType(type=type, queue="default", title=type, params_schema={"type": "object"}, result_schema={})
    return told.model_dump(mode="json")


def _fits(job: FakeJob, wanted: httpx.QueryParams) -> bool:
    shown = job.now.job
    has = {"status": str(job.now.status), "type": shown.type, "queue": shown.queue, "batch": shown.batch}
    return all(wanted[name] == has[name] for name in has if name in wanted) and (
        "tag" not in wanted or wanted["tag"] in shown.tags
    )


def _told(job: FakeJob, status: int) -> httpx.Response:
    headers = {"ETag": f'"{job.shown}"', "Retry-After": "1" if job.stalled else "0"}
    return _json(status, job.body(), headers)


def _json(status: int, content: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, content=content, headers={"Content-Type": "application/json", **(headers or {})})


def _again(response: httpx.Response) -> httpx.Response:
    return httpx.Response(response.status_code, content=response.content, headers=response.headers)


def _problem(kind: ProblemType, detail: str) -> httpx.Response:
    body = Problem.of(kind, detail).model_dump_json()
    return httpx.Response(kind.status, content=body, headers={"Content-Type": MEDIA_TYPE, "Retry-After": "1"})


def _read(request: httpx.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
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
