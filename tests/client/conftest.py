"""A gateway with canned responses."""

import json
from datetime import timedelta
from hashlib import sha256

import httpx
import pytest
from job_histories import RETENTION
from samples import ENDED, RUNNING, SUBMITTED

from milepost_client import Client
from milepost_client.cli import __main__ as cli
from milepost_client.cli import options
from milepost_contracts.messages.job_events import JobCanceled, JobFailed, JobProgressed, JobSubmitted, JobSucceeded
from milepost_contracts.status.render import render_document
from milepost_contracts.values import FileRef, JobError

RETRY_TIMEOUT = timedelta(seconds=0.05)
"""How long a test retries when the gateway is not available."""

STAGES = {
    "queued": JobSubmitted(job=SUBMITTED),
    "running": JobProgressed(job=RUNNING),
    "succeeded": JobSucceeded(job=ENDED.model_copy(update={"result": {"files": 1}})),
    "canceled": JobCanceled(job=ENDED.model_copy(update={"canceled_how": "cooperative"})),
    "failed": JobFailed(job=ENDED.model_copy(update={"error": JobError(kind="exception", message="it broke")})),
}


DIGEST = {
    "type": "digest-files",
    "queue": "default",
    "title": "Digest",
    "params_schema": {"properties": {"text": {"type": "string"}, "n": {"type": "integer"}}, "required": ["text"]},
    "result_schema": {},
}


class FakeGateway:
    """Answers each status request with the next stage of its script. A stage may be a complete response."""

    def __init__(self):
        self.script = ["queued", "running", "succeeded"]
        self.requests = []
        self.position = 0
        #: The output files of the job, by name.
        self.outputs = {}
        #: The response to a request for job types, if it is not the default.
        self.types = None
        #: The response to a request for events; without it, 405.
        self.stream = None

    def __call__(self, request):  # noqa: PLR0911 - one return per route
        self.requests.append(request)
        if request.url.path == "/v1/job-types":
            return self.types or httpx.Response(200, json={"items": [DIGEST]})
        if request.url.path == "/v1/events":
            return self.stream or problem(405, title="This can't be done here")
        if "/outputs/" in request.url.path:
            return httpx.Response(200, content=self.outputs[request.url.path.partition("/outputs/")[2]])
        if request.url.path == "/v1/jobs" and request.method == "GET":
            return httpx.Response(200, json={"items": [json.loads(self._body("succeeded", 3))], "next": None})
        stage = self.script[min(self.position, len(self.script) - 1)]
        if not isinstance(stage, str):
            self.position += 1
            return stage
        if request.headers.get("if-none-match") == f'"{self.position}"':
            self.position += 1
            return httpx.Response(304, headers={"Retry-After": "0", "ETag": f'"{self.position - 1}"'})
        headers = {"ETag": f'"{self.position}"', "Retry-After": "0"}
        response = httpx.Response(
            202 if request.method == "POST" else 200, content=self._body(stage, self.position), headers=headers
        )
        self.position += 1
        return response

    def _body(self, stage, version):
        event = STAGES[stage]
        refs = [
            FileRef(name=name, size=len(content), key=name, digest=sha256(content).hexdigest())
            for name, content in self.outputs.items()
        ]
        event = event.model_copy(update={"job": event.job.model_copy(update={"outputs": tuple(refs)})})
        return render_document(event, cancel=None, version=version, retention=RETENTION)


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def client(gateway):
    with Client(
        "http://gateway.test", http=httpx.Client(transport=httpx.MockTransport(gateway)), retry_timeout=RETRY_TIMEOUT
    ) as made:
        yield made


def problem(status, title="No", **more):
    body = {"type": "about:blank#x", "title": title, "status": status, "detail": "Because.", **more}
    return httpx.Response(
        status, content=json.dumps(body), headers={"Content-Type": "application/problem+json", "Retry-After": "0"}
    )


@pytest.fixture(name="problem")
def problem_fixture():
    return problem


@pytest.fixture
def milepost(gateway, monkeypatch, capsys):
    """Run the command against the fake gateway; return exit code, standard output and standard error."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    monkeypatch.setattr(
        options,
        "Client",
        lambda url, **named: Client(
            "http://gateway.test", http=httpx.Client(transport=httpx.MockTransport(gateway)), retry_timeout=timedelta(0)
        ),
    )

    def run(*words):
        monkeypatch.setattr("sys.argv", ["milepost", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    return run
