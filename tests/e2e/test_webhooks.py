"""Webhooks from a complete stack to a local receiver: signed, retried, and sent although a tracker is killed."""

import json
import threading
from collections import deque
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from standardwebhooks import Webhook
from waiting import wait_until

from milepost_client import Refused
from milepost_stack import processes


class Receiver(ThreadingHTTPServer):
    """Answers as the test sets, 204 by default, and records the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.answers = deque()
        self.requests = []
        #: While it is not set, requests are not answered.
        self.answering = threading.Event()
        self.answering.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hooks?job=7"


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), body))
        self.server.answering.wait(10)
        self.send_response(self.server.answers.popleft() if self.server.answers else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.answering.set()
    server.shutdown()
    server.server_close()


def wait_for_outcomes(client, job_id, *outcomes):
    """Wait until a job's webhooks have these outcomes."""

    def recorded():
        found = client.webhooks(job_id)
        return found if list(outcomes) == [one.outcome for one in found.items] else None

    return wait_until(recorded, within=30, what=f"webhooks {outcomes}")


def test_the_end_of_a_job_is_sent_once_as_a_verifiable_webhook(client, receiver):
    """It is verified with the library of Standard Webhooks, and read as a CloudEvent with the SDK's."""
    handle = client.submit("count", {"steps": 2}, callback_url=receiver.url)
    assert "succeeded" == handle.wait(30).status
    found = wait_for_outcomes(client, handle.id, "delivered")
    assert (receiver.url, 204) == (found.url, found.items[0].status_code)
    ((headers, body),) = receiver.requests
    (secret,) = client.webhook_secrets()
    verified = Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    assert {"counted": 2} == verified["data"]["result"]
    event = from_structured_event(HTTPMessage(headers=headers, body=body))
    assert ("dev.milepost.job.succeeded.v1", handle.id) == (event.get_type(), event.get_subject())
    assert headers["webhook-id"] == event.get_id() == found.items[0].webhook_id


def test_a_failure_and_a_cancellation_are_sent_too(client, receiver):
    """Every end of a job is sent."""
    failing = client.submit("digest-files", {"paths": ["not-yours"]}, callback_url=receiver.url)
    canceled = client.submit("count", {"steps": 1}, delay=timedelta(hours=1), callback_url=receiver.url)
    client.cancel(canceled.id)
    for handle, status in ((failing, "failed"), (canceled, "canceled")):
        assert status == handle.wait(30).status
        wait_for_outcomes(client, handle.id, "delivered")
    ends = {json.loads(body)["subject"]: json.loads(body)["type"].split(".")[3] for _, body in receiver.requests}
    assert {failing.id: "failed", canceled.id: "canceled"} == ends


def test_a_webhook_that_is_not_accepted_is_retried(client, receiver):
    """Five seconds later, with the same id and a new signature."""
    receiver.answers += [500]
    handle = client.submit("count", {"steps": 1}, callback_url=receiver.url)
    handle.wait(30)
    found = wait_for_outcomes(client, handle.id, "failed", "delivered")
    first, second = found.items
    waited = (second.at - first.at).total_seconds()
    print(f"webhook: 500, then accepted {waited:.1f} s later")
    assert 4.5 <= waited <= 10
    assert 1 == len({headers["webhook-id"] for headers, _ in receiver.requests})
    assert 2 == len({headers["webhook-timestamp"] for headers, _ in receiver.requests})


def test_410_disables_the_url_until_a_redelivery_succeeds(client, receiver):
    """For all jobs with this URL."""
    receiver.answers += [410]
    first = client.submit("count", {"steps": 1}, callback_url=receiver.url)
    first.wait(30)
    wait_for_outcomes(client, first.id, "gone")
    second = client.submit("count", {"steps": 1}, callback_url=receiver.url)
    second.wait(30)
    wait_for_outcomes(client, second.id, "disabled")
    assert receiver.requests[0][0]["webhook-id"] == client.redeliver_webhook(first.id)
    wait_for_outcomes(client, first.id, "gone", "delivered")
    client.redeliver_webhook(second.id)
    wait_for_outcomes(client, second.id, "disabled", "delivered")


def test_a_webhook_is_sent_again_if_its_tracker_is_killed(client, stack, receiver):
    """Kill -9 before the receiver answers: the next tracker sends it again, with the same id."""
    receiver.answering.clear()
    handle = client.submit("count", {"steps": 1}, callback_url=receiver.url)
    handle.wait(30)
    wait_until(lambda: receiver.requests, within=15, what="the webhook arrives")
    tracker = next(process for process in stack.state.processes if process.name == "tracker-1")
    processes.find(tracker).kill()
    receiver.answering.set()
    stack.restart("tracker-1")
    wait_for_outcomes(client, handle.id, "delivered")
    assert 1 == len({headers["webhook-id"] for headers, _ in receiver.requests})


def test_a_callback_url_outside_the_policy_is_refused_at_submission(client):
    """This stack allows callbacks to loopback, and to no other private network."""
    for url in ("http://10.0.0.1/", "https://169.254.169.254/", "https://example.com:22/", "ftp://127.0.0.1/"):
        with pytest.raises(Refused, match="callback_url"):
            client.submit("count", {"steps": 1}, callback_url=url)
