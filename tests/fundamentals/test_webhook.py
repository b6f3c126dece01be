"""Get a webhook at the end of a job, instead of polling.

A submission with a `callback_url` gets a `POST` there when the job ends: succeeded, failed or canceled. The body is a
CloudEvent with the complete job. It is signed as specified by Standard Webhooks, so that the receiver can verify it.

A webhook arrives at least once: until the receiver answers 2xx it is sent again, for three days, each time with the
same `webhook-id`. Between two tries it waits in RabbitMQ. `GET /v1/jobs/{id}/webhooks` lists the tries.
"""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from problem_answers import problem
from standardwebhooks import Webhook
from waiting import wait_until


class Receiver(ThreadingHTTPServer):
    """Some other service: keeps what it got, and answers 204, or first what `answers` says."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.got = []
        self.answers = deque()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hooks?order=7"


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.answers.popleft() if self.server.answers else 204)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def receiver():
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def tries(http):
    """Wait for these outcomes of a job's webhook, and return its tries."""

    def wait(job, *outcomes):
        def poll():
            answer = http.get(f"/v1/jobs/{job['id']}/webhooks")
            if answer.status_code == 503:  # no tracker has seen the job yet
                return None
            found = answer.json()["items"]
            return found if list(outcomes) == [one["outcome"] for one in found] else None

        return wait_until(poll, within=30, what=f"the webhook's tries are {outcomes}")

    return wait


def test_the_end_of_a_job_is_sent_to_its_callback_url(http, receiver, tries):
    """The receiver verifies the signature with the secret of its tenant; the body has the complete job."""
    job = {"type": "count", "params": {"steps": 2}, "callback_url": receiver.url}
    job = http.post("/v1/jobs", json=job).json()
    (delivered,) = tries(job, "delivered")
    ((path, headers, body),) = receiver.got
    assert ("/hooks?order=7", "application/cloudevents+json; charset=utf-8") == (path, headers["content-type"])

    (secret,) = http.get("/v1/webhook-secrets").json()["items"]
    event = Webhook(secret).verify(body, headers)
    assert event | {"type": "dev.milepost.job.succeeded.v1", "subject": job["id"], "specversion": "1.0"} == event
    assert {"counted": 2} == event["data"]["result"]
    assert event["id"] == headers["webhook-id"] == delivered["webhook_id"]
    assert delivered | {"number": 1, "event": "succeeded", "status_code": 204, "next_at": None} == delivered


def test_a_webhook_that_is_not_taken_is_sent_again(http, receiver, tries):
    """After five seconds, then less and less often; the receiver knows it by its id."""
    receiver.answers.append(500)
    job = http.post("/v1/jobs", json={"type": "digest-files", "callback_url": receiver.url}).json()
    first, second = tries(job, "failed", "delivered")
    assert (500, True) == (first["status_code"], first["next_at"] > first["at"])
    assert (1, 2) == (first["number"], second["number"])
    assert {first["webhook_id"]} == {headers["webhook-id"] for _, headers, _ in receiver.got}
    assert ["dev.milepost.job.failed.v1"] * 2 == [json.loads(body)["type"] for _, _, body in receiver.got]


def test_a_callback_url_that_leads_into_a_private_network_is_refused(http):
    """At the submission; this deployment allows loopback only."""
    job = {"type": "noop", "callback_url": "https://10.0.0.1/"}
    refused = problem(http.post("/v1/jobs", json=job), 422, "invalid-request")
    assert [{"pointer": "/callback_url", "detail": "its host is in a private or special network"}] == refused["errors"]
