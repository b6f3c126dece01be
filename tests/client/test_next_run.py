"""A retried job before the tracker has projected the retry: the gateway still shows the previous run."""

from datetime import timedelta

import httpx
import pytest
from job_histories import RETENTION
from samples import ENDED, ID, SUBMITTED

from milepost_client import Client
from milepost_contracts.messages.job_events import JobSubmitted, JobSucceeded, encode_event
from milepost_contracts.status.render import render_document

QUEUED = JobSubmitted(job=SUBMITTED)
FIRST = JobSucceeded(job=ENDED.model_copy(update={"result": "the first"}))
ACCEPTED = JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2}))
SECOND = JobSucceeded(job=ENDED.model_copy(update={"run": 2, "result": "the second"}))
UNPROJECTED = 'W/"0"'


class Gateway:
    """Answers each status request and each stream with the next entry of its script; the last entry is repeated."""

    def __init__(self):
        self.documents, self.streams = [], []
        self.cursors = []

    def __call__(self, request):
        if request.method == "POST":
            return _document(ACCEPTED, 3, UNPROJECTED)
        if request.url.path != "/v1/events":
            event, version = self.documents.pop(0) if len(self.documents) > 1 else self.documents[0]
            return _document(event, version, f'"{version}"')
        self.cursors.append(request.headers["last-event-id"])
        if not self.streams:
            return httpx.Response(405)
        event, version = self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]
        content = b"id: %d\nevent: snapshot\ndata: %b\n\n" % (version, encode_event(event))
        return httpx.Response(200, content=content, headers={"Content-Type": "text/event-stream"})


def _document(event, version, etag):
    body = render_document(event, cancel=None, version=version, retention=RETENTION)
    return httpx.Response(200, content=body, headers={"ETag": etag, "Retry-After": "0"})


@pytest.fixture
def gateway(monkeypatch):
    monkeypatch.setattr("milepost_client._sync.watching.STREAM_RETRY_INTERVAL", 0.0)
    return Gateway()


@pytest.fixture
def client(gateway):
    http = httpx.Client(transport=httpx.MockTransport(gateway))
    with Client("http://gateway.test", http=http, retry_timeout=timedelta(0)) as made:
        yield made


def test_the_end_of_the_previous_run_does_not_end_a_wait_for_the_next(client, gateway):
    """A wait after a retry returns the result of the accepted run."""
    gateway.documents = [(FIRST, 3), (FIRST, 3), (SECOND, 5)]
    handle = client.job(ID)
    assert 2 == handle.retry().run
    assert "the second" == handle.result()


def test_a_stream_of_the_previous_run_is_opened_again(client, gateway):
    """It starts again at the first event of the job; an event of the previous run is not a change."""
    gateway.documents = [(FIRST, 3), (SECOND, 5)]
    gateway.streams = [(FIRST, 3), (FIRST, 3), (SECOND, 5)]
    handle = client.job(ID)
    handle.retry()
    assert [(2, "queued"), (2, "succeeded")] == [(document.run, document.status) for document in handle.watch()]
    assert ["0", "0", "0"] == gateway.cursors


def test_two_handles_of_a_job_wait_for_the_newest_run_that_either_knows(client, gateway):
    """The order of the handles does not matter."""
    gateway.documents = [(QUEUED, 1), (FIRST, 3), (FIRST, 3), (SECOND, 5)]
    old, new = client.job(ID), client.job(ID)
    new.retry()
    assert {2} == {handle.document.run for handle in client.watch(new, old)}
    assert "the second" == new.document.result == old.document.result
