"""A job that runs again, while no tracker has seen that: the gateway still tells of the run before."""

from datetime import timedelta

import httpx
import pytest
from job_histories import RETENTION
from samples import ENDED, ID, SUBMITTED

from milepost_client import Client
from milepost_contracts.document import render
from milepost_contracts.events import JobSubmitted, JobSucceeded, encode_event

QUEUED = JobSubmitted(job=SUBMITTED)
FIRST = JobSucceeded(job=ENDED.model_copy(update={"result": "the first"}))
ACCEPTED = JobSubmitted(job=SUBMITTED.model_copy(update={"run": 2}))
SECOND = JobSucceeded(job=ENDED.model_copy(update={"run": 2, "result": "the second"}))
UNSEEN = 'W/"0"'


class Gateway:
    """Answers each look, and each stream, with the next of its script; the last one stays. A retry is accepted."""

    def __init__(self):
        self.looks, self.streams = [], []
        self.cursors = []

    def __call__(self, request):
        if request.method == "POST":
            return _document(ACCEPTED, 3, UNSEEN)
        if request.url.path != "/v1/events":
            event, version = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            return _document(event, version, f'"{version}"')
        self.cursors.append(request.headers["last-event-id"])
        if not self.streams:
            return httpx.Response(405)
        event, version = self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]
        told = b"id: %d\nevent: snapshot\ndata: %b\n\n" % (version, encode_event(event))
        return httpx.Response(200, content=told, headers={"Content-Type": "text/event-stream"})


def _document(event, version, etag):
    body = render(event, cancel=None, version=version, retention=RETENTION)
    return httpx.Response(200, content=body, headers={"ETag": etag, "Retry-After": "0"})


@pytest.fixture
def gateway(monkeypatch):
    monkeypatch.setattr("milepost_client._sync.watching.AGAIN", 0.0)
    return Gateway()


@pytest.fixture
def client(gateway):
    http = httpx.Client(transport=httpx.MockTransport(gateway))
    with Client("http://gateway.test", http=http, patience=timedelta(0)) as made:
        yield made


def test_the_last_run_s_end_is_not_the_next_one_s(client, gateway):
    """Who waits for the end of the run that was accepted gets that, and its result."""
    gateway.looks = [(FIRST, 3), (FIRST, 3), (SECOND, 5)]
    handle = client.job(ID)
    assert 2 == handle.retry().run
    assert "the second" == handle.result()


def test_a_stream_is_left_that_would_end_with_the_last_run(client, gateway):
    """It is opened again from the job's beginning; what it told of the last run is no change."""
    gateway.looks = [(FIRST, 3), (SECOND, 5)]
    gateway.streams = [(FIRST, 3), (FIRST, 3), (SECOND, 5)]
    handle = client.job(ID)
    handle.retry()
    assert [(2, "queued"), (2, "succeeded")] == [(document.run, document.status) for document in handle.watch()]
    assert ["0", "0", "0"] == gateway.cursors


def test_of_two_handles_the_one_that_knows_the_next_run_is_followed(client, gateway):
    """Whatever their order: the other one has seen less."""
    gateway.looks = [(QUEUED, 1), (FIRST, 3), (FIRST, 3), (SECOND, 5)]
    old, new = client.job(ID), client.job(ID)
    new.retry()
    assert {2} == {handle.document.run for handle in client.watch(new, old)}
    assert "the second" == new.document.result == old.document.result
